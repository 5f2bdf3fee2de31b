"""What the package stands on: errors, configuration, commands, checkpoints, loaders, randomness."""
