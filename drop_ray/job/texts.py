"""The texts of a run as token samples: to calibrate on, to judge by, and to quantize on."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch

from drop_ray.calibration import packing, text_files
from drop_ray.config import TextSection, resolve_path, text_sections
from drop_ray.errors import UserError
from drop_ray.job.job import Job
from drop_ray.models.dropped import read_config
from drop_ray.models.location import load_tokenizer


def load_calibration(job: Job) -> Any:
    """The run's calibration samples, int32 [num_samples, seq_len], tokenized here.

    UserError if the text is too short.
    """
    config = job.config.calibration
    if config.token_ids is not None:
        field = "calibration.token_ids"
        samples = text_files.read_token_ids(resolve_path(config.token_ids), config.num_samples, config.seq_len, field)
    elif config.dataset is not None:
        field = "calibration.dataset"
        stream = job.dataset.documents(config.text_field, config.shuffle_seed)
        samples = _pack(job, stream, config.num_samples, config.seq_len, field)
    else:
        assert config.source is not None
        field = "calibration.source"
        documents = text_files.read_documents(resolve_path(config.source), config.text_field, field)
        documents = packing.shuffled(documents, config.shuffle_seed)
        samples = _pack(job, documents, config.num_samples, config.seq_len, field)
    packing.check_vocabulary(samples, read_config(job.checkpoint).vocab_size, field)
    return samples


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
    return {field: _load_text(job, field, text) for field, text in text_sections(job.config).items()}


def _load_text(job: Job, field: str, text: TextSection) -> torch.Tensor:
    documents = text_files.read_documents(resolve_path(text.source), text.text_field, field)
    samples = _pack(job, documents, text.num_samples, text.seq_len, field)
    packing.check_vocabulary(samples, read_config(job.checkpoint).vocab_size, field)
    return torch.from_numpy(samples).long()


def _pack(job: Job, documents: Iterable[str], num_samples: int, seq_len: int, field: str) -> Any:
    tokenizer = load_tokenizer(job.checkpoint.folder)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{field}: the tokenizer of {job.checkpoint.location} has no EOS token to join documents with")

    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    return packing.pack(documents, tokenize, tokenizer.eos_token_id, num_samples, seq_len, field=field)
