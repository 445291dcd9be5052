"""The text of the terminal and of the log."""
