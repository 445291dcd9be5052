"""Tasks that end when the difference to the base is known well enough."""
