"""Stages of the pipeline that take more than a function of it: what is to do, and its units of work."""
