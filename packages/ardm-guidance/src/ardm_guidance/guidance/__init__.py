"""What tilts a model, and what corrects the tilt: potentials, proposals, sequential Monte Carlo."""
