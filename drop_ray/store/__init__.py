"""The artifact store: what a step has computed, kept so that it is never half there and never computed twice.

In: a `Step` (name and identity) and the files that it made. Out: a `Commit`, found again by any later run with the same
identity, on a local folder or on S3. Tables are in `drop_ray.store.tables`, which alone needs pyarrow.
"""

from drop_ray.store.location import open_store
from drop_ray.store.steps import Commit, Output, Step
from drop_ray.store.store import Store

__all__ = ["Commit", "Output", "Step", "Store", "open_store"]
