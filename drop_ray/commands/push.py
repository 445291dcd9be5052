"""`drop-ray push RUN VARIANT --to ORG/NAME`: a checkpoint to the Hugging Face hub, its card with the run's results."""

import argparse
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drop_ray.commands.arguments import add_command
from drop_ray.errors import UserError
from drop_ray.models.export_formats import EXPORT_FORMATS

if TYPE_CHECKING:
    from drop_ray.report.rows import VariantRow
    from drop_ray.sharing.finished_run import FinishedRun

IN_STORE = re.compile(r"artifacts/([^/]+)/[^/]+/checkpoint$")
"""The folder of an artifact in the location of its checkpoint: the store may lie elsewhere by now."""


def add(subparsers: Any) -> None:
    command = add_command(subparsers, "push", "upload a checkpoint to the Hugging Face hub, with a model card", run)
    command.add_argument("source", metavar="RUN", help="a run's YAML file or folder, or the folder of a checkpoint")
    command.add_argument("variant", nargs="?", help="which of the run's variants; none with a checkpoint's folder")
    command.add_argument("--to", required=True, metavar="ORG/NAME", help="the repository, made if it is not there")
    command.add_argument("--private", action="store_true", help="a new repository is private")
    command.add_argument("--revision", default="main", help="the branch, made if it is not there; main by default")
    command.add_argument("--format", choices=EXPORT_FORMATS, help="which of the run's checkpoints of the variant")
    command.add_argument("--base-model", metavar="ORG/NAME", help="the base's name on the hub, where the card lacks it")
    command.add_argument("--replace", action="store_true", help="remove what the branch has already")
    command.add_argument("--dry-run", action="store_true", help="show what would be uploaded, and the card")


def run(options: argparse.Namespace) -> int:
    from drop_ray.models.model_card import MODEL_CARD, at_place, based_on
    from drop_ray.sharing.hub import Target, check_checkpoint, check_target, files_of, push
    from drop_ray.text.units import human_bytes

    target = Target(options.to, options.private, options.revision, options.replace)
    if not options.dry_run:
        check_target(target)
    with tempfile.TemporaryDirectory(prefix="drop-ray-push-") as made:
        folder = Path(made)
        _stage(options, folder)
        check_checkpoint(folder)
        card = at_place((folder / MODEL_CARD).read_text(encoding="utf-8"), target.repo)
        if options.base_model:
            card = based_on(card, options.base_model)
        (folder / MODEL_CARD).write_text(card, encoding="utf-8")
        files = files_of(folder)
        for name, size in files.items():
            print(f"  {name}  {human_bytes(size)}")
        print(f"{len(files)} files, {human_bytes(sum(files.values()))}, to {target.repo}, branch {target.revision}")
        if options.dry_run:
            print(f"\n{card}")
            return 0
        print(push(folder, target, print))
    return 0


def _stage(options: argparse.Namespace, folder: Path) -> None:
    """Put the checkpoint's files into an empty folder, as links where they are on this machine. The card is a file."""
    from drop_ray.models.model_card import MODEL_CARD
    from drop_ray.sharing.finished_run import open_run

    source = Path(options.source)
    if (source / "config.json").is_file():
        if options.variant or options.format:
            raise UserError(f"{source} is one checkpoint: leave out the variant and --format")
        for path in source.iterdir():
            if path.is_file():
                (folder / path.name).symlink_to(path.resolve())
    else:
        found = open_run(options.source)
        if not options.variant:
            having = [row.name for row in found.results.variants if row.checkpoint]
            raise UserError(f"say which variant; those with a checkpoint: {', '.join(having) or 'none'}")
        _stage_variant(found, options.variant, options.format, folder)
    card = folder / MODEL_CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    card.unlink(missing_ok=True)
    card.write_text(text if not options.variant else found.card_with_results(text, options.variant), encoding="utf-8")


def _stage_variant(found: "FinishedRun", name: str, format: str | None, folder: Path) -> None:
    from drop_ray.store import Commit

    row = next((row for row in found.results.variants if row.name == name), None)
    if row is None:
        names = ", ".join(row.name for row in found.results.variants)
        raise UserError(f"the run {found.config.name} has no variant {name}; it has: {names}")
    location = _location(row, format)
    inside = IN_STORE.search(location)
    commit: Commit | None = found.store.commit_at(inside[1]) if inside else None
    if commit is None:
        raise UserError(f"{location} is no longer in the store; `drop-ray export` makes it anew")
    for path in (path for path in commit.outputs if path.startswith("checkpoint/")):
        file, local = folder / path.partition("/")[2], found.store.local_path(commit, path)
        if local is not None:
            if not local.is_file() or local.stat().st_size != commit.outputs[path].size:
                raise UserError(f"{local} is not what was committed; `drop-ray verify` says what is damaged")
            file.symlink_to(local.resolve())
        else:
            with file.open("wb") as target:
                found.store.download(commit, path, target)


def _location(row: "VariantRow", format: str | None) -> str:
    """Of a variant's checkpoint in a format. UserError if there is none."""
    if not row.checkpoint:
        raise UserError(f"{row.name} has no checkpoint; name it in the config's `export`, and run again")
    several: dict[str, str] = dict(re.findall(rf"({'|'.join(EXPORT_FORMATS)}): ([^,]+)", row.checkpoint))
    if not several and format is None:
        return row.checkpoint
    wanted = format or "dropped"
    if wanted not in several:
        has = ", ".join(several) or "one checkpoint, which is taken without --format"
        raise UserError(f"{row.name} has no choice of {wanted}: it has {has}")
    return several[wanted]
