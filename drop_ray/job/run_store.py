"""The store that a run's config names."""

from drop_ray.config import RunConfig
from drop_ray.store import Store, open_store


def store_of(config: RunConfig) -> Store:
    """The run's store, with its options. Nothing is read or written yet. UserError if it is no store's location."""
    return open_store(config.store, config.s3_options(config.store))
