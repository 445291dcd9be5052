"""The model card of an exported checkpoint: README.md, with the metadata that the Hugging Face hub reads.

It is written with the checkpoint, which may be before its evaluation. So it says that it has no results, and
`with_results` gives a card that has them. The base's own card speaks of another model, whose scores are not this one's:
it is kept beside as BASE_README.md, and only what its metadata says of licence and languages is taken over.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from drop_ray.errors import UserError
from drop_ray.models.card_text import BEGIN, END, FOLDER, HUB, NAMELESS, UNNAMED, CardFacts, card_text
from drop_ray.models.families import DropLists

MODEL_CARD = "README.md"
INHERITED = ("license", "license_name", "license_link", "language")
"""Metadata of the base's card that holds of what is made from it, too."""
logger = logging.getLogger(__name__)


def model_card(facts: CardFacts) -> str:
    """The card, as text."""
    inherited = _inherited(facts.base_card)
    data = ModelCardData(
        base_model=facts.base[0] if facts.base else None,
        base_model_relation="quantized" if facts.quantization else "finetune" if facts.base else None,
        library_name="transformers",
        model_name=None,
        pipeline_tag=inherited.pop("pipeline_tag", "image-text-to-text" if facts.is_whole else "text-generation"),
        tags=[*_tags(facts)],
        drop_ray={**facts.lacks.as_identity(), "refitted": facts.refit is not None},
        **inherited,
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + card_text(facts)


def with_results(card: str, evaluations: Sequence[EvalResult], text: str) -> str:
    """The card with results in its metadata and their text in the place that is kept for it. UserError without one.

    Both replace what stood there.
    """
    found = read_card(card)
    before, begin, rest = found.text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError("its README.md is not a card of drop_ray; export the checkpoint anew, with this version")
    title = next((line[2:] for line in before.splitlines() if line.startswith("# ")), UNNAMED)
    data: Any = found.data
    data.model_name, data.eval_results = title, list(evaluations) or None
    return f"---\n{data.to_yaml()}\n---\n{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"


def describes(card: str, lacks: DropLists, refitted: bool) -> bool:
    """Whether the card is of a model that lacks these sub-layers and was refitted, or was not."""
    data: Any = read_card(card).data
    return bool(data.get("drop_ray") == {**lacks.as_identity(), "refitted": refitted})


def at_place(card: str, place: str) -> str:
    """The card with the checkpoint's place in its commands."""
    return card.replace(FOLDER, place)


def read_card(text: str) -> ModelCard:
    """A card by huggingface_hub's own reader. UserError where it cannot be read."""
    try:
        return ModelCard(text)
    except Exception as error:  # yaml's errors, and ValueError and TypeError for fields of another type
        raise UserError(f"README.md: its metadata cannot be read: {error}") from error


def _inherited(card: str | None) -> dict[str, Any]:
    """What the base's card says of licence, languages and use, in its metadata."""
    if card is None:
        return {}
    try:
        found: Any = ModelCard(card, ignore_metadata_errors=True).data
        data: Mapping[str, Any] = found.to_dict()
    except Exception as error:  # as of `read_card`
        logger.warning("the base's README.md has metadata that cannot be read; no licence is taken over: %s", error)
        return {}
    return {name: data[name] for name in (*INHERITED, "pipeline_tag") if data.get(name)}


def _tags(facts: CardFacts) -> Iterator[str]:
    yield from ("drop-ray", "pruning", "layer-dropping", f"drop-ray-{facts.format}")
    if facts.strategy and facts.strategy not in ("base", "file"):
        yield f"strategy-{facts.strategy}"
    if facts.refit:
        yield "refitted"
    if facts.quantization:
        yield facts.quantization.partition(",")[0].lower()


def base_card_of(folder: Path) -> str | None:
    """The text of the card in a model's folder; None where there is none."""
    card = folder / MODEL_CARD
    return card.read_text(encoding="utf-8-sig", errors="replace") if card.is_file() else None


def based_on(card: str, base: str) -> str:
    """The card with the base's name on the hub, where it had none. UserError if it names another base."""
    found = read_card(card)
    data: Any = found.data
    if data.base_model not in (None, base):
        raise UserError(f"--base-model {base}: the card says that it was made of {data.base_model}")
    if data.base_model == base:
        return card
    data.base_model = base
    data.base_model_relation = data.get("base_model_relation", "finetune")
    title = f"# {base.rpartition('/')[2]}"
    if data.model_name:
        data.model_name = data.model_name.replace(UNNAMED, title[2:], 1)
    text = found.text.replace(NAMELESS, f"[{base}]({HUB}/{base})", 1).replace(f"# {UNNAMED}", title, 1)
    return f"---\n{data.to_yaml()}\n---\n{text}"
