"""The report of a run: result tables in, one HTML page, Markdown and a table of every number out. Pure."""
