"""The texts of a run as token samples: to calibrate on, to judge by, and to quantize on."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch

from drop_ray.calibration import packing, text_files
from drop_ray.config import DivergenceSpec, TextSection, resolve_path, text_sections
from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLES
from drop_ray.job.job import Job
from drop_ray.models.dropped import read_config
from drop_ray.models.location import load_tokenizer
from drop_ray.store.tables import read_table

DIVERGENCE = "evaluation.divergence"
"""The field of the text on which predictions are compared."""
LEAST_SAMPLES = 2
"""Samples that a panel takes: standard errors are over samples."""


def load_calibration(job: Job) -> Any:
    """The run's calibration samples, int32 [num_samples, seq_len], tokenized here.

    UserError if the text is too short.
    """
    config = job.config.calibration
    if config.token_ids is not None:
        field = "calibration.token_ids"
        samples = text_files.read_token_ids(resolve_path(config.token_ids), config.num_samples, config.seq_len, field)
    else:
        field = "calibration.dataset" if config.dataset is not None else "calibration.source"
        samples = _pack(job, _calibration_documents(job), config.num_samples, config.seq_len, field)
    packing.check_vocabulary(samples, read_config(job.checkpoint).vocab_size, field)
    return samples


def load_divergence(job: Job) -> Any:
    """The samples on which variants are compared with the base, int32 [at most num_samples, seq_len].

    Without a source of their own they are what follows the calibration samples in the calibration text: no token is in
    both. Read from the store, if they are there. UserError if a text that the config names is too short.
    """
    try:
        commit = job.store.find(steps.divergence_text_step(job))
        stored = None if commit is None else packing.from_table(read_table(job.store, commit, SAMPLES))
    except CorruptArtifactError:
        stored = None  # the stage finds it too, and has it made anew
    samples = _make_divergence(job) if stored is None else stored
    check_divergence(job, len(samples))
    return samples


def check_divergence(job: Job, count: int) -> None:
    """UserError if that many samples are fewer than a config asks for that names the section."""
    wanted, asked = divergence_spec(job), "divergence" in job.config.evaluation.model_fields_set
    if asked and count < wanted.num_samples:
        raise UserError(
            f"{DIVERGENCE}: {divergence_source(job)} gives {count} samples of {divergence_length(job)} tokens, "
            f"{wanted.num_samples} are asked for; give more text, lower num_samples or seq_len, or set it to null"
        )
    if job.config.evaluation.screen is not None and count < LEAST_SAMPLES:
        raise UserError(
            f"evaluation.screen chooses by panels, and {divergence_source(job)} has {count} samples of "
            f"{divergence_length(job)} tokens, where a panel takes {LEAST_SAMPLES}; name a text in {DIVERGENCE}.source"
        )


def divergence_spec(job: Job) -> DivergenceSpec:
    """The section, of a run that compares."""
    spec = job.config.evaluation.divergence
    assert spec is not None, "the config compares nothing"
    return spec


def divergence_length(job: Job) -> int:
    """Tokens of a sample."""
    return divergence_spec(job).seq_len or job.config.calibration.seq_len


def divergence_source(job: Job) -> str:
    """The text, for people."""
    config, source = job.config.calibration, divergence_spec(job).source
    if source is not None:
        return source
    whole = job.dataset.label if config.dataset else config.source or config.token_ids
    return f"{whole}, behind the {config.num_samples} calibration samples,"


class Texts(Mapping[str, torch.Tensor]):
    """What `load_texts` gives, tokenized when it is first asked for: a run that has nothing to do needs no tokens."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @cached_property
    def _samples(self) -> dict[str, torch.Tensor]:
        return load_texts(self._job)

    def __getitem__(self, field: str) -> torch.Tensor:
        return self._samples[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)


def load_texts(job: Job) -> dict[str, torch.Tensor]:
    """Samples of each text for perplexity or quantization, by its field in the config: int64 [num_samples, seq_len].

    UserError if a text is too short.
    """
    texts = {field: _load_text(job, field, text) for field, text in text_sections(job.config).items()}
    if job.config.evaluation.divergence is not None:
        texts[DIVERGENCE] = torch.from_numpy(load_divergence(job)).long()
    return texts


def _make_divergence(job: Job) -> Any:
    spec, config, seq_len = divergence_spec(job), job.config.calibration, divergence_length(job)
    skipped = 0 if spec.source else config.num_samples * config.seq_len
    if spec.source is None and config.token_ids is not None:
        path = resolve_path(config.token_ids)
        samples = text_files.read_token_ids_behind(
            path, config.num_samples, spec.num_samples, seq_len, "calibration.token_ids"
        )
    else:
        field = f"{DIVERGENCE}.source"
        documents = (
            text_files.read_documents(resolve_path(spec.source), spec.text_field, field)
            if spec.source
            else _calibration_documents(job)
        )
        samples = packing.packed_behind(documents, *_tokenizer_of(job, field), skipped, spec.num_samples, seq_len)
    packing.check_vocabulary(samples, read_config(job.checkpoint).vocab_size, DIVERGENCE)
    return samples


def _calibration_documents(job: Job) -> Iterable[str]:
    """The documents of the calibration text in the order in which they are packed."""
    config = job.config.calibration
    if config.dataset is not None:
        return job.dataset.documents(config.text_field, config.shuffle_seed)
    assert config.source is not None
    documents = text_files.read_documents(resolve_path(config.source), config.text_field, "calibration.source")
    return packing.shuffled(documents, config.shuffle_seed)


def _load_text(job: Job, field: str, text: TextSection) -> torch.Tensor:
    documents = text_files.read_documents(resolve_path(text.source), text.text_field, field)
    samples = _pack(job, documents, text.num_samples, text.seq_len, field)
    packing.check_vocabulary(samples, read_config(job.checkpoint).vocab_size, field)
    return torch.from_numpy(samples).long()


def _pack(job: Job, documents: Iterable[str], num_samples: int, seq_len: int, field: str) -> Any:
    tokenize, eos_token_id = _tokenizer_of(job, field)
    return packing.pack(documents, tokenize, eos_token_id, num_samples, seq_len, field=field)


def _tokenizer_of(job: Job, field: str) -> tuple[packing.Tokenize, int]:
    """The model's tokenizer as `packing` calls it, and its EOS token. UserError if it has none."""
    tokenizer = load_tokenizer(job.checkpoint.folder)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{field}: the tokenizer of {job.checkpoint.location} has no EOS token to join documents with")

    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    return tokenize, tokenizer.eos_token_id
