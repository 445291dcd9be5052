"""A package outside of drop_ray that adds to it: docs/extending.md explains it file by file."""
