"""Two or more finished runs side by side: what they have in common, and how far their variants differ."""
