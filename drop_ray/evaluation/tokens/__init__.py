"""A model asked for token ids: the interface, and models of transformers that compute common prefixes once."""
