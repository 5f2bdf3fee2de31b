"""Files of molecules, splits, caches and batches."""
