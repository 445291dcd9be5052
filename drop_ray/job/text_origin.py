"""One text of the config, found where it is: a file, a data set or ready token ids, and the samples that it gives."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from drop_ray.calibration import packing, text_files
from drop_ray.calibration.dataset import CalibrationDataset, open_dataset
from drop_ray.config import TextOrigin, resolve_path
from drop_ray.job.file_hash import file_sha256


@dataclass(frozen=True)
class Vocabulary:
    """How a model makes tokens of text."""

    size: int
    """Rows of its embedding."""
    tokenizer: Callable[[str], tuple[packing.Tokenize, int]]
    """Its tokenizer as `packing` calls it, and its EOS token. UserError, with the field that asks, if it has none."""


@dataclass(frozen=True)
class Before:
    """Samples of a text that others follow."""

    num_samples: int = 0
    """Number of samples."""
    seq_len: int = 0
    """Number of tokens of each."""


@dataclass(frozen=True)
class FoundOrigin:
    """One text, whose content is fixed."""

    field: str
    """The field that names it, such as `calibration.sources[1].source`."""
    spec: TextOrigin
    """What the config says of it."""
    dataset: CalibrationDataset | None
    """The dataset that it is; None for a file."""
    content: dict[str, Any]
    """Identity of the text before it is tokenized, without the field of it that is read."""

    @property
    def label(self) -> str:
        """A name for people."""
        return self.dataset.label if self.dataset else str(self.spec.source or self.spec.token_ids)

    def samples(
        self,
        vocabulary: Vocabulary,
        num_samples: int,
        seq_len: int,
        *,
        shuffle_seed: int | None = None,
        before: Before | None = None,
    ) -> packing.Samples:
        """Its first samples, or those that follow others: int32 [at most num_samples, seq_len].

        UserError if it cannot be read, and for ids that the vocabulary does not have. A sample of ready token ids that
        is too short is refused among the first ones, and left out among those that follow.
        """
        if self.spec.token_ids is not None:
            found = self._ready(self.spec.token_ids, num_samples, seq_len, before)
        else:
            passed = before or Before()
            skipped = passed.num_samples * passed.seq_len
            tokenize, eos_token_id = vocabulary.tokenizer(self.field)
            documents = self._documents(shuffle_seed)
            found = packing.packed_behind(documents, tokenize, eos_token_id, skipped, num_samples, seq_len)
        packing.check_vocabulary(found, vocabulary.size, self.field)
        return found

    def _ready(self, path: str, num_samples: int, seq_len: int, before: Before | None) -> packing.Samples:
        place = resolve_path(path)
        if before is None:
            return text_files.read_token_ids(place, num_samples, seq_len, self.field, fewer=True)
        return text_files.read_token_ids_behind(place, before.num_samples, num_samples, seq_len, self.field)

    def _documents(self, shuffle_seed: int | None) -> Iterable[str]:
        """Its documents in the order in which they are packed."""
        if self.dataset is not None:
            return self.dataset.documents(self.spec.text_field, shuffle_seed)
        assert self.spec.source is not None
        documents = text_files.read_documents(resolve_path(self.spec.source), self.spec.text_field, self.field)
        return packing.shuffled(documents, shuffle_seed)


def find_origin(section: str, spec: TextOrigin) -> FoundOrigin:
    """The text that a section of the config names. UserError if it is not there.

    The hub is asked for the commit of a dataset, unless the config says which.
    """
    if spec.dataset is not None:
        dataset = open_dataset(spec, section)
        return FoundOrigin(f"{section}.dataset", spec, dataset, {"dataset": dataset.identity})
    name = "token_ids" if spec.token_ids is not None else "source"
    path, field = getattr(spec, name), f"{section}.{name}"
    return FoundOrigin(field, spec, None, {name: file_sha256(resolve_path(path), field)})
