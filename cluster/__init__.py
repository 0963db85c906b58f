"""How a Ray cluster comes to be and is reached. Knows nothing of training."""
