"""What is the same in every package: errors, configuration, commands, checkpoints, loading."""
