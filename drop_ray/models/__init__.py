"""What a model is: its checkpoint files, its family, the classes without some of its sub-layers, and its export."""
