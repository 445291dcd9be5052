"""Rewrites checkpoints that drop_ray does not take as checkpoints that it does."""
