"""Checkpoints for programs that read other forms than transformers does."""
