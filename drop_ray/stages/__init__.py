"""The stages of the pipeline: each lists its units, says how they are done, and takes up their results."""
