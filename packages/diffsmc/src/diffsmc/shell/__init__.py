"""The ground floor: what is the same in all four packages of the workspace, but for its name."""
