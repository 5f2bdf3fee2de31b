"""Lightning modules and their writers."""
