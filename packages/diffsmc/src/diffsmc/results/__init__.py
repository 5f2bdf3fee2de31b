"""Results: files, diagnostics, reports and pictures."""
