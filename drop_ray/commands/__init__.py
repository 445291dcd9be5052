"""The commands of `drop-ray`, one per file: its arguments and what it does."""
