"""A text of the config, found: one text or a mix of several, with the samples that each gives."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from drop_ray.calibration import mix, packing
from drop_ray.config import SizedText, Text
from drop_ray.errors import UserError
from drop_ray.job.text_origin import Before, FoundOrigin, Vocabulary, find_origin
from drop_ray.store.identity import canonical_json


@dataclass(frozen=True)
class Part:
    """One of the texts of a mix."""

    number: int
    """Its place in the list of the config, from 0."""
    found: FoundOrigin
    """The text."""
    share: float
    """Its share of the tokens, as the config gives it."""
    part: Fraction
    """The same as a part of 1: those of a mix add up to 1."""
    count: int
    """Samples that it gives."""


@dataclass(frozen=True)
class FoundText:
    """A text whose content is fixed. One text alone is all of its samples."""

    field: str
    """The section of the config that names it, such as `calibration`."""
    sized: SizedText
    """What the config says of it, and the samples that are taken of it."""
    parts: tuple[Part, ...]
    """What it consists of, in the order that their contents decide: their order in the config decides nothing."""

    @property
    def spec(self) -> Text:
        return self.sized.text

    @property
    def label(self) -> str:
        """A name for people."""
        texts = sorted(self.parts, key=lambda part: part.number)
        if not self.spec.sources:
            return texts[0].found.label
        return "a mix of " + " and ".join(f"{one.found.label} ({100 * float(one.part):.3g} %)" for one in texts)

    @property
    def content(self) -> dict[str, Any]:
        """Identity of the text before it is tokenized, without the field of it that is read."""
        if not self.spec.sources:
            return self.parts[0].found.content
        texts = [{**part.found.content, **_field_read(part.found), "share": str(part.part)} for part in self.parts]
        return {"sources": texts, "mix_seed": self.spec.mix_seed}

    @property
    def identity(self) -> dict[str, Any]:
        """Identity of the text before it is cut into samples."""
        seed = self.spec.shuffle_seed
        order = {} if seed is None else {"shuffle_seed": seed}
        return {**self.content, "text_field": self.spec.text_field, **order}

    def samples(self, vocabulary: Vocabulary) -> packing.Samples:
        """Its samples, int32 [num_samples, seq_len]. UserError if there are too few, with what would do."""
        found = []
        for part in self.parts:
            seq_len = self.sized.seq_len
            samples = part.found.samples(vocabulary, part.count, seq_len, shuffle_seed=self.spec.shuffle_seed)
            if len(samples) < part.count:
                raise UserError(self._too_short(part, len(samples)))
            found.append(samples)
        return mix.interleaved(found, self.spec.mix_seed)

    def some_samples(self, vocabulary: Vocabulary) -> packing.Samples:
        """Its samples, or those that there are of a text alone: int32 [at most num_samples, seq_len]."""
        if self.spec.sources:
            return self.samples(vocabulary)
        seed = self.spec.shuffle_seed
        return self.parts[0].found.samples(vocabulary, self.sized.num_samples, self.sized.seq_len, shuffle_seed=seed)

    def samples_behind(
        self, vocabulary: Vocabulary, num_samples: int, seq_len: int, *, wanted_by: str | None
    ) -> packing.Samples:
        """What follows its samples, of a mix in the same shares: int32 [at most num_samples, seq_len].

        A mix gives as many as the text gives that ends first: another composition would be another text. wanted_by: the
        field that asks for all of them; UserError names it and the text of the mix that ends first. None takes what
        there is.
        """
        parts = [part.part for part in self.parts]
        wanted = mix.counts_of(parts, num_samples)
        found = [
            part.found.samples(
                vocabulary,
                count,
                seq_len,
                shuffle_seed=self.spec.shuffle_seed,
                before=Before(part.count, self.sized.seq_len),
            )
            for part, count in zip(self.parts, wanted, strict=True)
        ]
        short = [one for one in zip(self.parts, wanted, map(len, found), strict=True) if one[1] > one[2]]
        if wanted_by and short and self.spec.sources:
            part, count, there = min(short, key=lambda one: one[2] / one[1])
            raise UserError(
                f"{wanted_by}: {part.found.label} has {there} samples of {seq_len} tokens behind its {part.count} "
                f"calibration samples, and {count} of the {num_samples} that are asked for are to be of it; give more "
                "of it, lower num_samples or seq_len, or name a source"
            )
        number = mix.most_samples(parts, [len(samples) for samples in found], num_samples)
        counts = mix.counts_of(parts, number)
        return mix.interleaved(
            [samples[:count] for samples, count in zip(found, counts, strict=True)], self.spec.mix_seed
        )

    def _too_short(self, part: Part, available: int) -> str:
        size, found = self.sized, part.found
        if not self.spec.sources:
            return (
                f"{found.field}: the text gives {available} samples of {size.seq_len} tokens, {size.num_samples} are "
                "asked for; give more text, or lower num_samples or seq_len"
            )
        shares = [spec.share for spec in self.spec.sources]
        share = mix.largest_share(shares, part.number, available, size.num_samples)
        remedy = f"lower its share to {share:g}, " if share else "leave it out, " if len(shares) > 1 else ""
        return (
            f"{found.field}: {found.label} gives {available} samples of {size.seq_len} tokens, its share of "
            f"{part.share:g} takes {part.count} of {size.num_samples}; {remedy}give more text, or lower num_samples or "
            "seq_len"
        )


def find_text(field: str, sized: SizedText) -> FoundText:
    """The text that a section of the config names.

    UserError for a text that is not there, and in a mix for two that are the same and for a share that gives no sample.
    """
    sources = sized.text.sources
    if not sources:
        found = find_origin(field, sized.text)
        return FoundText(field, sized, (Part(0, found, 1.0, Fraction(1), sized.num_samples),))
    origins = [find_origin(f"{field}.sources[{number}]", spec) for number, spec in enumerate(sources)]
    keys = [canonical_json({**origin.content, **_field_read(origin)}) for origin in origins]
    places: dict[str, str] = {}
    for key, origin in zip(keys, origins, strict=True):
        first = places.setdefault(key, origin.field)
        if first != origin.field:
            raise UserError(f"{origin.field} is the text of {first} once more; name it once, with a larger share")
    shares = mix.parts_of([spec.share for spec in sources])
    order = sorted(range(len(sources)), key=keys.__getitem__)
    counts = mix.counts_of([shares[number] for number in order], sized.num_samples)
    parts = tuple(
        Part(number, origins[number], sources[number].share, shares[number], count)
        for number, count in zip(order, counts, strict=True)
    )
    for part in parts:
        if not part.count:
            raise UserError(
                f"{field}.sources[{part.number}].share: {part.share:g} is less than one of {sized.num_samples} "
                "samples; raise it, or num_samples"
            )
    return FoundText(field, sized, parts)


def _field_read(found: FoundOrigin) -> dict[str, str]:
    """Of a text the field that is read is part of what it is; token ids have one only."""
    return {"text_field": found.spec.text_field} if found.spec.reads_text else {}
