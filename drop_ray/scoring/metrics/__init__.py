"""The metrics, which compare two residual states: one file per metric, listed in `drop_ray.extensions.METRICS`."""
