"""Searches: which models are measured before a plan chooses, and what is sought of them. Pure, like all of planning."""
