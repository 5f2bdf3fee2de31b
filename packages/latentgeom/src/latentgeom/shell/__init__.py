"""What is the same in every package of the workspace: command line, checkpoints, loading."""
