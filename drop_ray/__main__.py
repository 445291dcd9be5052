"""`python -m drop_ray` is `drop-ray`, with the drop_ray of the working directory if that has one: jobs start so."""

from drop_ray.cli import console

console()
