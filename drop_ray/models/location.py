"""Where a model's files are (a local folder, or a Hugging Face name that is downloaded), and its tokenizer."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from transformers import AutoTokenizer

from drop_ray.errors import UserError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ["*.json", "*.safetensors", "tokenizer*", "merges.txt", "chat_template*", "LICENSE*", "README*", "NOTICE*"]


def locate_model(path: str, revision: str | None) -> Path:
    """The folder itself if it is one; else downloads a Hugging Face name at `revision`. UserError with the remedy."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if not HUB_NAME.fullmatch(path):
        raise UserError(f"model.path: {path} is neither a folder nor a Hugging Face name (organisation/model)")
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"model.path: {path} is no local folder, and the Hugging Face hub did not give it ({error}); "
            "check the name, the network, HF_TOKEN for a gated model, or give a folder"
        ) from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that lies beside a model's weights; UserError if there is none that transformers can load."""
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.path: {folder} has no tokenizer that transformers can load "
            f"({str(error).strip().splitlines()[0]}); copy the base model's tokenizer files into it"
        ) from error
