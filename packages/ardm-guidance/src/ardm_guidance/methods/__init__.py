"""Ways to draw samples: each an object with its settings, named by ``class_path``."""
