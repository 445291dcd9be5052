"""Serving with vLLM: a plugin that teaches vLLM dropped checkpoints, and the server of `drop-ray serve`."""
