"""What the terminal and the log say."""
