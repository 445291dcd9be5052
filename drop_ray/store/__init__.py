"""The artifact store: what a step has computed, kept so that it is never half there and never computed twice.

A `Step` (name and identity) and the files that it made go in. Out comes a `Commit`, which any later run with the same
identity finds again, on a local folder or on S3. Only `drop_ray.store.tables` needs pyarrow.
"""

from drop_ray.store.location import open_store
from drop_ray.store.steps import Commit, Output, Step
from drop_ray.store.store import Store

__all__ = ["Commit", "Output", "Step", "Store", "open_store"]
