"""Lightning classes, one file each."""
