"""A run: its checked job, the identities of its steps, and the units that are done."""
