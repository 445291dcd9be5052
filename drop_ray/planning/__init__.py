"""Score tables to drop plans: pure functions without torch, Ray or files of a run."""
