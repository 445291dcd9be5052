"""Models: checkpoint files, families, the classes without some of the sub-layers, and export."""
