"""`drop-ray doctor`: what is installed and in reach here, and what a run lacks, with what brings it."""

import os
import platform
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from drop_ray import __version__
from drop_ray.config import RunConfig
from drop_ray.errors import DropRayError
from drop_ray.store.versions import installed_version
from drop_ray.text.console import PLAIN
from drop_ray.text.faults import in_a_line
from drop_ray.text.tables import names, table_lines, words
from drop_ray.text.units import human_bytes

# A run of any kind needs these.
LIBRARIES = ("torch", "transformers", "ray", "lm_eval", "s3fs")
STYLES = {"ok": "green", "-": "dim", "missing": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    topic: str
    """What it is."""
    state: str
    """`ok`; `missing` if the run cannot do without it; `-` if only other runs want it."""
    text: str
    """What was found, or what to do."""


@dataclass(frozen=True)
class Diagnosis:
    """All that was found."""

    findings: tuple[Finding, ...]
    """In the order in which they are shown."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is missing."""
        return all(finding.state != "missing" for finding in self.findings)

    def lines(self, console: Console = PLAIN) -> Iterator[str]:
        rows = [(each.topic, Text(each.state, STYLES[each.state]), each.text) for each in self.findings]
        yield from table_lines(console, (names(), names(), words()), rows)

    def as_json(self) -> dict[str, Any]:
        return {"is_well": self.is_well, "findings": [asdict(finding) for finding in self.findings]}


def diagnose(config: RunConfig | None) -> Diagnosis:
    """Look at this machine and, with a config, at what its run needs: libraries, GPUs, Ray, the store, the model."""
    return Diagnosis((*_libraries(), *_extras(config), *_gpus(config), _ray(), *(_places(config) if config else ())))


def _libraries() -> Iterator[Finding]:
    yield Finding("drop_ray", "ok", f"{__version__}, Python {platform.python_version()}")
    for name in LIBRARIES:
        version = installed_version(name)
        yield Finding(name, "ok", version) if version else Finding(name, "missing", "pip install drop-ray")


def _extras(config: RunConfig | None) -> Iterator[Finding]:
    """What comes with extras: an engine of serving, and one of quantization."""
    # Importing them takes a second.
    from drop_ray.quantization.checks import check_libraries
    from drop_ray.serving.servable import DISTRIBUTIONS, check_vllm

    for topic, distributions, check, is_wanted in (
        ("vLLM", DISTRIBUTIONS, check_vllm, config is not None and config.serving is not None),
        ("gptqmodel", ("gptqmodel",), check_libraries, config is not None and bool(config.quantization)),
    ):
        found = next((version for name in distributions if (version := installed_version(name))), "")
        yield _checked(topic, partial(_text_after, check, found), "missing" if is_wanted else "-")


def _gpus(config: RunConfig | None) -> Iterator[Finding]:
    import torch

    count = torch.cuda.device_count()
    if not count:
        are_wanted = config is not None and config.execution.gpus_per_worker not in (0, "auto")
        if are_wanted and "RAY_ADDRESS" not in os.environ:
            remedy = "set it to 0, or RAY_ADDRESS to a cluster that has them"
            yield Finding("GPUs", "missing", f"none here, and execution.gpus_per_worker asks for them: {remedy}")
        else:
            yield Finding("GPUs", "-", "none here")
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(f"GPU {index}", "ok", f"{properties.name}, {human_bytes(properties.total_memory)}")


def _ray() -> Finding:
    """Where Ray is; a cluster's port is asked whether anybody listens."""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or address == "local":
        return Finding("Ray", "ok", f"is started on this machine, with {os.cpu_count()} CPUs, when a run begins")
    host, _, port = address.rpartition("://")[2].partition(":")
    if not port.isdigit():
        return Finding("Ray", "ok", f"RAY_ADDRESS is {address}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        return Finding(
            "Ray",
            "missing",
            f"RAY_ADDRESS is {address}, where nobody answers ({in_a_line(error)}): start the cluster, or unset it",
        )
    return Finding("Ray", "ok", f"{address} answers")


def _places(config: RunConfig) -> Iterator[Finding]:
    yield _checked(f"store {config.store}", partial(_write_to_store, config))
    yield _checked(f"model {config.model.path}", partial(_open_model, config))


def _write_to_store(config: RunConfig) -> str:
    from drop_ray.job.run_store import store_of

    store_of(config).check_writable()
    return "can be written and read"


def _open_model(config: RunConfig) -> str:
    from drop_ray.models.checkpoint import open_checkpoint
    from drop_ray.models.location import locate_model
    from drop_ray.models.probe import check_architecture

    location = locate_model(config.model.location, config.model.revision, weights=False)
    checkpoint = open_checkpoint(location, weights=False)
    check_architecture(checkpoint, config.model.allow_unlisted)
    return f"a {', '.join(checkpoint.config['architectures'])}"


def _checked(topic: str, look: Callable[[], str], otherwise: str = "missing") -> Finding:
    """What a look finds, or the error that it ends with, which says what to do."""
    try:
        return Finding(topic, "ok", look())
    except (DropRayError, OSError) as error:
        return Finding(topic, otherwise, in_a_line(error))


def _text_after(check: Callable[[], None], text: str) -> str:
    check()
    return text
