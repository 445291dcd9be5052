"""One file a command of `drop-ray`: its arguments beside what it does."""
