"""The texts of `calibration.sources`, each with the samples that it gives."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from drop_ray.calibration import mix, packing, text_files
from drop_ray.calibration.dataset import CalibrationDataset, open_dataset
from drop_ray.config import CalibrationConfig, CalibrationSource, resolve_path
from drop_ray.errors import UserError
from drop_ray.job.file_hash import file_sha256
from drop_ray.store.identity import canonical_json


@dataclass(frozen=True)
class MixedText:
    """One of the texts of a mix."""

    number: int
    """Its place in the list of the config, from 0."""
    field: str
    """The field that names it, such as `calibration.sources[1].source`."""
    dataset: CalibrationDataset | None
    """The dataset that it is; None for a file."""
    content: dict[str, Any]
    """Identity of the text before it is tokenized."""
    spec: CalibrationSource
    """What the config says of it."""
    part: Fraction
    """Its part of the tokens; those of a mix add up to 1."""
    count: int
    """Calibration samples that it gives."""

    @property
    def label(self) -> str:
        """A name for people."""
        return self.dataset.label if self.dataset else str(self.spec.source)

    @property
    def identity(self) -> dict[str, Any]:
        """What identifies it in the mix, with its exact part."""
        return {**self.content, "share": str(self.part)}

    def documents(self, shuffle_seed: int | None) -> Iterable[str]:
        """Its documents in the order in which they are packed."""
        if self.dataset is not None:
            return self.dataset.documents(self.spec.text_field, shuffle_seed)
        assert self.spec.source is not None
        documents = text_files.read_documents(resolve_path(self.spec.source), self.spec.text_field, self.field)
        return packing.shuffled(documents, shuffle_seed)


def mixed_texts(config: CalibrationConfig) -> tuple[MixedText, ...]:
    """The texts of the mix, sorted by what they are: their order in the config decides nothing.

    UserError for a text that is not there, for two that are the same, and for a share that gives no sample.
    """
    read = [_read(f"calibration.sources[{number}]", spec) for number, spec in enumerate(config.sources)]
    places: dict[str, str] = {}
    for field, _, content in read:
        first = places.setdefault(canonical_json(content), field)
        if first != field:
            raise UserError(f"{field} is the text of {first} once more; name it once, with a larger share")
    parts = mix.parts_of([spec.share for spec in config.sources])
    order = sorted(range(len(read)), key=lambda number: canonical_json(read[number][2]))
    counts = mix.counts_of([parts[number] for number in order], config.num_samples)
    texts = tuple(
        MixedText(number, *read[number], config.sources[number], parts[number], count)
        for number, count in zip(order, counts, strict=True)
    )
    for text in texts:
        if not text.count:
            raise UserError(
                f"calibration.sources[{text.number}].share: {text.spec.share:g} is less than one of "
                f"{config.num_samples} samples; raise it, or num_samples"
            )
    return texts


def mix_samples(
    config: CalibrationConfig, texts: tuple[MixedText, ...], tokenize: packing.Tokenize, eos_token_id: int
) -> packing.Samples:
    """The calibration samples of a mix, int32 [num_samples, seq_len]. UserError for a text that is too short."""
    found = []
    for text in texts:
        documents = text.documents(config.shuffle_seed)
        samples = packing.packed_behind(documents, tokenize, eos_token_id, 0, text.count, config.seq_len)
        if len(samples) < text.count:
            raise UserError(_too_short(config, text, len(samples)))
        found.append(samples)
    return mix.interleaved(found, config.mix_seed)


def mix_samples_behind(
    config: CalibrationConfig,
    texts: tuple[MixedText, ...],
    tokenize: packing.Tokenize,
    eos_token_id: int,
    num_samples: int,
    seq_len: int,
    *,
    wanted_by: str | None,
) -> packing.Samples:
    """What follows the calibration samples in each text, in the same shares: int32 [at most num_samples, seq_len].

    They are as many as the text gives that ends first: another composition would be another text. wanted_by: the field
    that asks for all of them; UserError names it and the text that ends first. None takes what there is.
    """
    parts = [text.part for text in texts]
    wanted = mix.counts_of(parts, num_samples)
    found = [
        packing.packed_behind(
            text.documents(config.shuffle_seed), tokenize, eos_token_id, text.count * config.seq_len, count, seq_len
        )
        for text, count in zip(texts, wanted, strict=True)
    ]
    short = [one for one in zip(texts, wanted, map(len, found), strict=True) if one[1] > one[2]]
    if wanted_by and short:
        text, count, there = min(short, key=lambda one: one[2] / one[1])
        raise UserError(
            f"{wanted_by}: {text.label} has {there} samples of {seq_len} tokens behind its {text.count} calibration "
            f"samples, and {count} of the {num_samples} that are asked for are to be of it; give more of it, lower "
            "num_samples or seq_len, or name a source"
        )
    number = mix.most_samples(parts, [len(samples) for samples in found], num_samples)
    counts = mix.counts_of(parts, number)
    return mix.interleaved([samples[:count] for samples, count in zip(found, counts, strict=True)], config.mix_seed)


def _read(section: str, spec: CalibrationSource) -> tuple[str, CalibrationDataset | None, dict[str, Any]]:
    """Its field, its dataset, and what identifies it."""
    if spec.dataset is not None:
        dataset = open_dataset(spec, section)
        return f"{section}.dataset", dataset, {"dataset": dataset.identity, "text_field": spec.text_field}
    assert spec.source is not None
    field = f"{section}.source"
    return field, None, {"source": file_sha256(resolve_path(spec.source), field), "text_field": spec.text_field}


def _too_short(config: CalibrationConfig, text: MixedText, available: int) -> str:
    shares = [spec.share for spec in config.sources]
    share = mix.largest_share(shares, text.number, available, config.num_samples)
    remedy = f"lower its share to {share:g}, " if share else "leave it out, " if len(shares) > 1 else ""
    return (
        f"{text.field}: {text.label} gives {available} samples of {config.seq_len} tokens, its share of "
        f"{text.spec.share:g} takes {text.count} of {config.num_samples}; {remedy}give more text, or lower num_samples "
        "or seq_len"
    )
