"""Uploads a checkpoint's folder to the Hugging Face hub as one commit, after a look at its card and the repository.

Nothing is there until all of it is. An upload that breaks off goes on where it was: the hub has the large files that
came through, and is not sent them again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub import errors as hub_errors
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from drop_ray.errors import HubError, UserError
from drop_ray.models.card_text import BEGIN
from drop_ray.models.model_card import MODEL_CARD, read_card

OWN = {".gitattributes"}
"""Files that the hub itself puts into a new repository."""
MAIN = "main"
# The base class of the errors of httpx in version 1, and of httpx2 in version 2.
HTTPError: type[Exception] = hub_errors.HTTPError  # type: ignore[attr-defined]
LOGIN = "set HF_TOKEN to a token that may write, or run `hf auth login`"


@dataclass(frozen=True)
class Target:
    """Where a checkpoint goes."""

    repo: str
    """Organisation or user, and name."""
    private: bool = False
    """Whether a new repository is private."""
    revision: str = MAIN
    """The branch, made if it is not there."""
    replace: bool = False
    """Whether what the branch has already is replaced."""


def check_target(target: Target) -> None:
    """UserError unless the name can be one of the hub's and there is a token."""
    try:
        validate_repo_id(target.repo)
    except HFValidationError as error:
        raise UserError(f"--to {target.repo}: {error}") from error
    if "/" not in target.repo:
        raise UserError(f"--to {target.repo}: say whose it is, as organisation/name or user/name")
    if get_token() is None:
        raise UserError(f"no token for the Hugging Face hub: {LOGIN}")


def files_of(folder: Path) -> dict[str, int]:
    """Names and sizes of what is uploaded of a checkpoint's folder: its files, without hidden ones."""
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }


def check_checkpoint(folder: Path) -> None:
    """UserError unless the folder has a checkpoint with a card of drop_ray's that huggingface_hub can read."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: it is no checkpoint")
    card = folder / MODEL_CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if BEGIN not in text:
        raise UserError(f"{card} is no model card of drop_ray's, but may be the base's; export the checkpoint anew")
    read_card(text)


def push(folder: Path, target: Target, tell: Callable[[str], None]) -> str:
    """Upload the folder; returns the commit's address. UserError for a card or repository that is not fit for it."""
    check_checkpoint(folder)
    check_target(target)
    api = HfApi()
    with _in_words(target):
        try:
            read_card((folder / MODEL_CARD).read_text(encoding="utf-8")).validate()
        except ValueError as error:
            raise UserError(f"the hub refuses the metadata of {MODEL_CARD}: {error}") from error
        _check_empty(api, target)
        api.create_repo(target.repo, private=target.private or None, exist_ok=True)
        if target.revision != MAIN:
            api.create_branch(target.repo, branch=target.revision, exist_ok=True)
        tell(f"uploading to {target.repo}, branch {target.revision}")
        commit = api.upload_folder(
            repo_id=target.repo,
            folder_path=folder,
            revision=target.revision,
            allow_patterns=[*files_of(folder)],
            delete_patterns="*" if target.replace else None,
            commit_message="Checkpoint and model card by drop_ray",
        )
    return str(commit.commit_url)


def _check_empty(api: HfApi, target: Target) -> None:
    """UserError if the branch has files already, unless they are to be replaced."""
    try:
        branches = {ref.name for ref in api.list_repo_refs(target.repo).branches}
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return
    # A new branch begins with what the main one has.
    branch = target.revision if target.revision in branches else MAIN
    found = sorted(set(api.list_repo_files(target.repo, revision=branch)) - OWN) if branch in branches else []
    if found and not target.replace:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(
            f"{target.repo} has {', '.join(found[:3])}{more} on its branch {branch}; give another name, or --replace, "
            "which removes what is there"
        )


@contextmanager
def _in_words(target: Target) -> Iterator[None]:
    """What the hub answers, as HubError."""
    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{target.repo} is gated, and this token's account has no access: ask for it there") from error
    except HfHubHTTPError as error:
        remedy = {
            401: f"the token is not valid: {LOGIN}",
            403: f"the token's account may not write there: {LOGIN}, or give a name of its own",
            404: "there is no such organisation or repository, or the token does not see it",
        }.get(error.response.status_code, "run the same command again: it goes on where it broke off")
        raise HubError(f"{target.repo}: {remedy} ({error.server_message or error})") from error
    except (OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise HubError(
            f"the Hugging Face hub cannot be reached ({error}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE, "
            "then run the same command again: it goes on where it broke off"
        ) from error
