"""What a run is: its checked job, the identities of its steps, and what of it is done."""
