"""The metrics, by which modules are scored: one file per metric, listed in `drop_ray.extensions.METRICS`."""
