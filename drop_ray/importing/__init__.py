"""Checkpoints in forms that drop_ray does not take, written anew in one that it does."""
