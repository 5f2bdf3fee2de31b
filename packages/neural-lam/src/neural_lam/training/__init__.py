"""Lightning modules that train forecasters, and what a run writes."""
