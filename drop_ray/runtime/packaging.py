"""Which files of the working directory are uploaded for a submitted job, up to a limit of their size.

Ray uploads a package to the head node's memory and unpacks it on every node that runs a worker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import drop_ray
from drop_ray.config import RunConfig, texts_of
from drop_ray.config.section import DEMO_PREFIX
from drop_ray.errors import UserError
from drop_ray.runtime.ray_private import uploaded_files
from drop_ray.text.units import human_bytes

MAX_BYTES = 100 << 20
NUM_NAMED = 5
# Patterns as in a .gitignore. Ray itself leaves out what .gitignore and .rayignore name.
EXCLUDES = (
    *(".git", ".venv*", "__pycache__", "*.egg-info"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".cache"),
    *("drop-ray-store", ".env*", ".netrc", "*.pem", "auth_token"),
)


@dataclass(frozen=True)
class Package:
    """The files that are uploaded for a job."""

    folder: Path
    """The folder to upload."""
    excludes: tuple[str, ...]
    """Patterns of the files that are left out, as in a .gitignore."""
    files: dict[Path, int]
    """Size in bytes of each file that is uploaded."""

    def __contains__(self, path: Path) -> bool:
        """Whether a file, or anything in a folder, is uploaded."""
        path = path.absolute()
        return path in self.files or any(path in file.parents for file in self.files)


def make_package(folder: Path, store: str) -> Package:
    """The working directory without that store. UserError, which names the largest files, if it is too large."""
    excludes = (*EXCLUDES, *_inside(folder, store))
    files = {path: path.stat().st_size for path in uploaded_files(folder, excludes)}
    package = Package(folder, excludes, files)
    size = sum(package.files.values())
    if size > MAX_BYTES:
        largest = sorted(package.files.items(), key=lambda item: -item[1])[:NUM_NAMED]
        named = ", ".join(f"{path.relative_to(folder)} ({human_bytes(size)})" for path, size in largest)
        raise UserError(
            f"the working directory has {human_bytes(size)} to upload, more than {human_bytes(MAX_BYTES)}; the "
            f"largest files: {named}; name what the job does not need in a .rayignore, or move it elsewhere"
        )
    return package


def check_config_file(package: Package, path: Path) -> str:
    """The path of the config in the job's working directory. UserError if the config is not uploaded."""
    if path not in package:
        raise UserError(f"{path} is not uploaded; run the command from a folder that has it, and not in a .rayignore")
    return path.absolute().relative_to(package.folder).as_posix()


def check_paths(package: Package, config: RunConfig) -> list[str]:
    """Paths of the config that the job looks for on the cluster's own disks, as `field: path`.

    UserError if the job will not have a file that is here, or would keep its store in a copy of this folder.
    """
    if "://" not in config.store and not Path(config.store).expanduser().is_absolute():
        raise UserError(
            f"store: {config.store} would lie in the job's copy of this folder and go with it; "
            "give s3://bucket/prefix (--set store=...), or a whole path on a disk of a cluster of one node"
        )
    absolute = [] if "://" in config.store else [f"store: {config.store}"]
    for field, path in _paths(config):
        if path.startswith(DEMO_PREFIX) or "://" in path:
            continue
        if not path.startswith("~") and not Path(path).is_absolute():
            if Path(path) not in package:
                raise UserError(
                    f"{field}: {path} is not among the files to upload; put it under {package.folder}, and in no "
                    ".gitignore or .rayignore, or give a URL or a whole path that every node of the cluster has"
                )
        elif Path(path).is_relative_to(package.folder):
            raise UserError(f"{field}: {path} lies in the folder that is uploaded; write it relative to that folder")
        else:
            absolute.append(f"{field}: {path}")
    return absolute


def own_modules() -> list[str]:
    """This drop_ray as modules for Ray to upload: its code, and the folder that names its plugin to vLLM."""
    (names,) = (file for file in distribution("drop-ray").files or () if file.name == "entry_points.txt")
    return [str(Path(drop_ray.__file__).parent), str(Path(str(names.locate())).parent)]


def _inside(folder: Path, store: str) -> Iterator[str]:
    """A pattern that leaves the store out, if it lies in the folder."""
    path = Path(store).expanduser().absolute()
    if "://" not in store and path.is_relative_to(folder):
        yield f"/{path.relative_to(folder).as_posix()}"


def _paths(config: RunConfig) -> Iterator[tuple[str, str]]:
    """(field, path) of every file or folder that the config names. A Hugging Face name is neither."""
    # As in models.location and calibration.dataset, a path that is no folder here is a Hugging Face name.
    origins = [
        (place, text)
        for field, sized in texts_of(config).items()
        for place, text in (
            (field, sized.text),
            *((f"{field}.sources[{i}]", one) for i, one in enumerate(sized.text.sources)),
        )
    ]
    folders = {"model.path": config.model.path, **{f"{place}.dataset": text.dataset for place, text in origins}}
    for field, name in folders.items():
        if name is not None and (Path(name).is_dir() or Path(name).is_absolute()):
            yield field, name
    named = {
        **{f"{place}.{name}": getattr(text, name) for place, text in origins for name in ("source", "token_ids")},
        "evaluation.include_path": config.evaluation.include_path,
        **{f"plans[{position}].file": spec.file for position, spec in enumerate(config.plans)},
    }
    yield from ((field, path) for field, path in named.items() if path is not None)
