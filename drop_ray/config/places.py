"""Whether what a config names on this machine is there: asked at once, before imports that take seconds.

Paths are relative to the folder in which the command is run.
"""

from collections.abc import Iterator
from pathlib import Path

from drop_ray.config.run import RunConfig, texts_of
from drop_ray.config.section import resolve_path
from drop_ray.errors import UserError
from drop_ray.models.place import check_place
from drop_ray.text.path_names import tried


def check_places(config: RunConfig) -> None:
    """UserError for a model, text, plan or folder of tasks that is not there. URLs and hub names are not asked."""
    check_place(config.model.location)
    for field, path in _text_files(config):
        check_file(field, resolve_path(path))
    for position, spec in enumerate(config.plans):
        if spec.file:
            check_file(f"plans[{position}].file", resolve_path(spec.file))
    tasks = config.evaluation.include_path
    if tasks and not resolve_path(tasks).is_dir():
        raise UserError(f"evaluation.include_path: {tried(resolve_path(tasks))} is not a folder")


def check_file(field: str, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{field}: {tried(path)} is not a file")


def _text_files(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Every file with text or token ids, after the field that names it."""
    for field, sized in texts_of(config).items():
        mixed = {f"{field}.sources[{number}]": source for number, source in enumerate(sized.text.sources)}
        for section, origin in {field: sized.text, **mixed}.items():
            for name in ("source", "token_ids"):
                if path := getattr(origin, name):
                    yield f"{section}.{name}", path
