"""The texts of a run as token samples: to calibrate on, to judge by, and to refit and quantize on."""

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch

from drop_ray.calibration import packing
from drop_ray.calibration.overlap import overlaps
from drop_ray.config import CALIBRATION, DIVERGENCE, DivergenceSpec, RunConfig, perplexity_field, texts_of
from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLES
from drop_ray.job.job import Job
from drop_ray.job.text_origin import Vocabulary
from drop_ray.models.location import load_tokenizer
from drop_ray.store import Step
from drop_ray.store.tables import read_table

logger = logging.getLogger(__name__)

LEAST_SAMPLES = 2
"""Samples that a panel takes: standard errors are over samples."""


def load_calibration(job: Job) -> Any:
    """The run's calibration samples, int32 [num_samples, seq_len], tokenized here.

    UserError if the text is too short.
    """
    return load_samples(job, CALIBRATION)


def load_samples(job: Job, field: str) -> Any:
    """The samples of a text that the config names: int32 [num_samples, seq_len]. UserError if it is too short."""
    return job.text(field).samples(_vocabulary(job))


def load_divergence(job: Job) -> Any:
    """The samples on which variants are compared with the base, int32 [at most num_samples, seq_len].

    Without a text of their own they are what follows the calibration samples in the calibration text: no token is in
    both. Read from the store, if they are there. UserError if a text that the config names is too short.
    """
    stored = _stored(job, steps.divergence_text_step(job))
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
    if divergence_spec(job).origin:
        return job.text(DIVERGENCE).label
    return f"{job.calibration.label}, behind the {job.config.calibration.num_samples} calibration samples,"


class Texts(Mapping[str, torch.Tensor]):
    """What `load_texts` gives, tokenized when it is first asked for: a run that has nothing to do needs no tokens."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @cached_property
    def _samples(self) -> dict[str, torch.Tensor]:
        samples = load_texts(self._job)
        warn_of_overlaps(self._job.config, samples)
        return samples

    def __getitem__(self, field: str) -> torch.Tensor:
        return self._samples[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)


def load_texts(job: Job) -> dict[str, torch.Tensor]:
    """Samples of every text of the run, by its field in the config: int64 [num_samples, seq_len].

    Those of calibration texts are read from the store, if they are there. UserError if a text is too short.
    """
    texts = {}
    for field in texts_of(job.config):
        if field != DIVERGENCE:
            stored = _stored(job, steps.calibration_step(job)) if field == CALIBRATION else None
            texts[field] = torch.from_numpy(load_samples(job, field) if stored is None else stored).long()
    if job.config.evaluation.divergence is not None:
        texts[DIVERGENCE] = torch.from_numpy(load_divergence(job)).long()
    return texts


def warn_of_overlaps(config: RunConfig, texts: Mapping[str, torch.Tensor]) -> None:
    """Say in the log which texts that something is chosen by or fitted to are also judged on, whole or in part."""
    judged = [DIVERGENCE, *(perplexity_field(text.name) for text in config.evaluation.perplexity)]
    for field in [field for field in judged if field in texts]:
        for other in [other for other in texts if other not in judged]:
            shared = overlaps(texts[other].numpy(), texts[field].numpy())
            if shared:
                logger.warning(
                    "%s: %d of its %d samples are, at least in part, among those of %s; what was chosen by a text or "
                    "fitted to it looks better on it than on others: name another text in one of the two",
                    *(field, shared, len(texts[field]), other),
                )


def _make_divergence(job: Job) -> Any:
    spec, vocabulary = divergence_spec(job), _vocabulary(job)
    if spec.origin:
        return job.text(DIVERGENCE).some_samples(vocabulary)
    asked = DIVERGENCE if "divergence" in job.config.evaluation.model_fields_set else None
    return job.calibration.samples_behind(vocabulary, spec.num_samples, divergence_length(job), wanted_by=asked)


def _stored(job: Job, step: Step) -> Any:
    """The samples that the store has of a step; None where it has none."""
    try:
        commit = job.store.find(step)
        return None if commit is None else packing.from_table(read_table(job.store, commit, SAMPLES))
    except CorruptArtifactError:
        return None  # the stage finds it too, and has it made anew


def _vocabulary(job: Job) -> Vocabulary:
    def tokenizer(field: str) -> tuple[packing.Tokenize, int]:
        found = load_tokenizer(job.checkpoint.folder)
        if found.eos_token_id is None:
            raise UserError(
                f"{field}: the tokenizer of {job.checkpoint.location} has no EOS token to join documents with"
            )

        def tokenize(texts: list[str]) -> list[list[int]]:
            ids: list[list[int]] = found(texts, add_special_tokens=False, verbose=False)["input_ids"]
            return ids

        return tokenize, found.eos_token_id

    return Vocabulary(job.vocab_size, tokenizer)
