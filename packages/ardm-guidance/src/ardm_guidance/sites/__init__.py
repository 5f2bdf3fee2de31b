"""Objects as rows of sites: graphs, molecules, and what a partial object can still become."""
