"""What the log warns of while a run is under way, kept in the run's folder for its report."""

import json
import logging
from types import TracebackType

from drop_ray.errors import UserError
from drop_ray.job.run_files import RunFiles, read_run_file
from drop_ray.reading.json_text import parse_json
from drop_ray.store import Store

logger = logging.getLogger(__name__)

WARNINGS = "warnings.json"
MOST = 100
"""Warnings that are kept, the first ones: a store that is out of reach for a night says so each time it is tried."""


class RunWarnings(logging.Handler):
    """The warnings of this process since it was entered, each once; a context manager. Not those of workers."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: dict[str, None] = {}

    def __enter__(self) -> "RunWarnings":
        logging.getLogger("drop_ray").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("drop_ray").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.told) < MOST:
            self.told.setdefault(record.getMessage())


def kept_warnings(store: Store, run_folder: str) -> list[str]:
    """Those of earlier starts of the run; what cannot be read is left out, which is a warning too."""
    path = f"{run_folder}/{WARNINGS}"
    try:
        found = parse_json(read_run_file(store, path), store.location(path))
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise UserError(f"{store.location(path)}: is not a list of texts")
    except FileNotFoundError:
        return []
    except UserError as error:
        logger.warning("%s; it is written anew", error)
        return []
    return found


def keep_warnings(files: RunFiles, texts: list[str]) -> None:
    """Write them for the next start, and for `verify`; nothing without any."""
    if texts:
        files.write(WARNINGS, (json.dumps(texts, indent=1, ensure_ascii=False) + "\n").encode())
