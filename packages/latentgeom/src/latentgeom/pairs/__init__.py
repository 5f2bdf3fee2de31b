"""What is done with metrics and pairs of points."""
