"""4-bit and 8-bit weights: the engine that makes them, our own reading of its files, and what they cost in accuracy."""
