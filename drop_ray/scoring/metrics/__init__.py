"""How two residual states are compared: one file a metric, listed in `drop_ray.extensions.METRICS`."""
