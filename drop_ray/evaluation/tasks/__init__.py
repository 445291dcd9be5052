"""lm-eval's tasks: found by name, checked, identified, loaded with their data, and counted."""
