"""The worker that units run in: its model, store and device, and one place for a loaded model."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from drop_ray.config import EvaluationConfig, ModelConfig, ScoringConfig
from drop_ray.errors import CorruptArtifactError, WorkerFailedError
from drop_ray.job.artifacts import CHECKPOINT, PATCH
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import parse_dtype
from drop_ray.models.edited import edited
from drop_ray.models.files.model_folder import LocalSource
from drop_ray.models.files.weight_hashes import weight_hashes
from drop_ray.models.loading import load_model
from drop_ray.models.location import locate_model
from drop_ray.planning.changes import Patch
from drop_ray.planning.variants import Variant
from drop_ray.refit.patch import PatchTensors
from drop_ray.store import Commit, Step, Store
from drop_ray.store.hash_memory import HashMemory
from drop_ray.store.node_cache import NodeCache, cache_root
from drop_ray.store.versions import full_versions

# Libraries that take part in a result, or in the exchange with the driver.
LIBRARIES = ("drop-ray", "torch", "transformers", "tokenizers", "ray", "lm-eval")
# The part of each GPU's free memory that a model takes when it is spread over several; the rest is for activations.
FREE_FRACTION = 0.9

Progress = Callable[[int, int], None]


class LogProgress(Protocol):
    """Makes callbacks for what a share does."""

    def __call__(self, what: str, begin: float = 0.0, end: float = 1.0) -> Progress:
        """One that takes (done, total) of `what`, which is the part of the share from `begin` to `end`."""
        ...


@dataclass(frozen=True)
class WorkerSetup:
    """The settings that every worker of a run gets at its start."""

    model: ModelConfig
    """Where the model is, and how it is loaded."""
    model_identity: str
    """Identity of the run's model."""
    model_outline: str
    """Outline of the run's model, which a node can compare without reading all of it."""
    store: Store
    """Store that units are committed to."""
    scoring: ScoringConfig
    """How samples are scored."""
    evaluation: EvaluationConfig
    """How tasks are evaluated."""
    include_path: str | None
    """Folder of lm-eval tasks."""
    threads: int | None
    """Number of threads of torch on a CPU; None leaves torch's own choice."""
    wave_bytes: int
    """Bytes of host memory for residual states when layers are streamed."""
    model_hashes: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the model's files on S3 by their states, so that no node reads them all only to hash them."""
    earlier_identities: Mapping[str, str] = field(default_factory=dict)
    """Identities of the training checkpoints before the run's model, by revision."""
    model_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Options of the connection to S3, for a model there; they may hold credentials."""
    cache_dir: str | None = None
    """Folder of the node's cache, as `execution.cache_dir`."""
    cache_bytes: int | None = None
    """Bytes that the node's cache may hold, as `execution.cache_bytes`."""
    libraries: tuple[str, ...] = LIBRARIES
    """Libraries that every node must have in the driver's versions."""
    run: str = ""
    """Name of the run, for the record of what it took."""


class Worker:
    """Holds at most one model: the scorer of a drop state, or a variant that is being evaluated."""

    def __init__(self, setup: WorkerSetup, node: str, log_progress: LogProgress, gpus: float = 0):
        """node: address of the machine. log_progress: makes callbacks that tell how far a share is.

        gpus: GPUs that this worker holds, whether it computes on them or not.
        """
        self.setup, self.node, self.log_progress, self.gpus = setup, node, log_progress, gpus
        self.store = setup.store
        # Ray sets no devices for a worker without GPUs, and such a worker would see all of them.
        self.device = "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") and torch.cuda.is_available() else "cpu"
        self._cache = NodeCache(setup.cache_dir, setup.cache_bytes)
        self._hashes = HashMemory(cache_root(setup.cache_dir), setup.model_hashes)
        self._checkpoints: dict[str | None, Checkpoint] = {}
        self._held: tuple[object, Any] | None = None
        self._remembered: tuple[object, Any] | None = None
        self._patch: Path | None = None
        self._since = time.monotonic()

    def start(self) -> None:
        """Find the model's files, and check that they are those the driver saw."""
        if self.setup.threads is not None:
            torch.set_num_threads(self.setup.threads)
        self.checkpoint()

    def begin(self) -> None:
        """A share begins: the time from now on is that of its units."""
        self._since = time.monotonic()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the run's model is computed in."""
        return parse_dtype(self.setup.model.dtype)

    def checkpoint(self, revision: str | None = None) -> Checkpoint:
        """The run's model, or an earlier training checkpoint. It is opened when first asked for."""
        if revision not in self._checkpoints:
            self._checkpoints[revision] = self._open(revision)
        return self._checkpoints[revision]

    def source(self, variant: Variant) -> Checkpoint:
        """The base's files as the variant's edits change them; what it drops is still in them."""
        edits = [self._opened(edit) if isinstance(edit, Patch) else edit for edit in variant.edits]
        return edited(self.checkpoint(), edits) if edits else self.checkpoint()

    def hold(self, key: object, load: Callable[[], Any]) -> Any:
        """What is held under an equal key; otherwise the result of `load`, which is then held.

        What was held before is let go first, since two models may not fit.
        """
        if self._held is None or self._held[0] != key:
            self.release()
            self._held = key, load()
        return self._held[1]

    def release(self) -> None:
        """Let go of the model that is held, and close it if it is more than memory of this process."""
        held, self._held = self._held, None
        if held is not None and hasattr(held[1], "close"):
            held[1].close()

    def remember(self, key: object, read: Callable[[], Any]) -> Any:
        """Something small that many units read, such as the calibration samples. Only the last one is kept."""
        if self._remembered is None or self._remembered[0] != key:
            self._remembered = key, read()
        return self._remembered[1]

    def load(self, variant: Variant, made: Commit | None) -> PreTrainedModel:
        """The variant, ready for inference. made: its own checkpoint's commit, if it has one."""
        attention = self.setup.model.attn_implementation
        if variant.remake is not None:
            assert made is not None, f"{variant.name} has a checkpoint of its own"
            with self.folder(made, CHECKPOINT) as folder:
                loaded: PreTrainedModel = variant.remake.load(
                    folder, device=self.device, dtype=self.setup.model.dtype, attn_implementation=attention
                )
                return loaded
        return load_model(
            self.source(variant),
            variant.drops,
            dtype=self.dtype,
            device=self.device,
            attn_implementation=attention,
            memory=_memory_of_gpus(),
        )

    def _opened(self, patch: Patch) -> Patch:
        """The patch with its tensors at hand, in a folder that stays until that of another patch is asked for."""
        assert patch.made is not None, f"{patch.label} is not done"
        folder = self._cache.folder_of(self.store, patch.made, PATCH)
        if self._patch not in (None, folder):
            self._cache.release(self._patch)
        self._patch = folder
        if self.store.local_path(patch.made, PATCH) is not None:
            self._check_in_place(patch.made, PATCH)
        return replace(patch, tensors=PatchTensors(folder))

    @contextmanager
    def folder(self, commit: Commit, logical: str) -> Iterator[Path]:
        """A local folder with the outputs of that logical name, fetched if they lie elsewhere.

        CorruptArtifactError if their bytes are not those that were committed.
        """
        folder = self._cache.folder_of(self.store, commit, logical)
        try:
            if self.store.local_path(commit, logical) is not None:
                self._check_in_place(commit, logical)
            yield folder
        finally:
            self._cache.release(folder)

    def _check_in_place(self, commit: Commit, logical: str) -> None:
        """Compare all bytes of a local store's files, which are read once a node as long as they stay as they are."""
        names = [name for name in commit.outputs if name.startswith(f"{logical}/")]
        sources = {name: LocalSource(Path(self.store.path_of(commit, name))) for name in names}
        for name, sha256 in weight_hashes(sources, self._hashes, self.store.path_of(commit, logical)).items():
            if sha256 != commit.outputs[name].sha256:
                expected = commit.outputs[name].sha256
                raise CorruptArtifactError(f"{sources[name].path}: sha256 {sha256} instead of {expected}")

    def commit(self, step: Step, outputs: Mapping[str, Path], measured: Mapping[str, float] | None = None) -> Commit:
        """Commit files or folders by their logical names.

        measured: what doing it took, by name, for the record; it may differ from one time to the next. The seconds
        since the share began, or since its unit before was committed, are added: so the units of a share, which may be
        done together, have its time between them, and all of it but the last upload.
        """
        now = time.monotonic()
        spent = {"seconds": now - self._since, "gpus": self.gpus}
        self._since = now
        provenance = {
            "versions": full_versions(),
            "device": self.device,
            "node": self.node,
            "run": self.setup.run,
            "measured": {**spent, **(measured or {})},
        }
        return self.store.commit(step, outputs, provenance=provenance)

    def _open(self, revision: str | None) -> Checkpoint:
        setup, model = self.setup, self.setup.model
        place = revision or model.main_revision
        cache = self._cache if setup.cache_dir else None
        location = locate_model(model.location, place)
        checkpoint = open_checkpoint(location, setup.model_options, cache=cache, hashes=self._hashes)
        identity = setup.earlier_identities[revision] if revision else setup.model_identity
        if checkpoint.identity != identity:
            name = f"{model.path} at {place}" if place else model.path
            raise WorkerFailedError(
                f"model.path: {name} on {self.node} is not the model that the driver has, or it changed since; give "
                "every node the same files"
            )
        return checkpoint


def _memory_of_gpus() -> dict[int | str, int] | None:
    """Bytes that a model may take on each of this worker's GPUs, if it has several."""
    count = torch.cuda.device_count() if os.environ.get("CUDA_VISIBLE_DEVICES") else 0
    return {gpu: int(torch.cuda.mem_get_info(gpu)[0] * FREE_FRACTION) for gpu in range(count)} if count > 1 else None
