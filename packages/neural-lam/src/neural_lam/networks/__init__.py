"""Networks from the features of a grid to a field on it."""
