"""A model on S3 as a folder of this node's cache."""

from drop_ray.models.files.model_folder import LocalFolder, is_small_file
from drop_ray.models.files.remote_folder import RemoteFolder
from drop_ray.models.files.weight_files import find_weights
from drop_ray.store.identity import fingerprint
from drop_ray.store.node_cache import NodeCache


def cached_folder(remote: RemoteFolder, cache: NodeCache) -> LocalFolder:
    """The model's small files and its weights in one format, as a folder of the cache, fetched if it is not there.

    `remote` is a folder on S3. The entry is named by its files' sizes and etags: another model at the same URL is
    another entry, and a copy of the model is the same one.
    """
    names = sorted({*filter(is_small_file, remote.names), *find_weights(remote)})
    content = {name: [remote.sizes[name], remote.etags[name]] for name in names}
    num_bytes = sum(remote.sizes[name] for name in names)
    folder = cache.entry(fingerprint(content), num_bytes, remote.location, lambda target: remote.fetch(names, target))
    return LocalFolder(folder, origin=remote.location)
