"""The text of a model card: what was changed, its results, how the checkpoint is loaded and served, and its limits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.text.layer_ranges import layer_ranges

BASE_CARD = "BASE_README.md"
"""What the base's own card is called beside a checkpoint."""
FOLDER = "FOLDER-OF-THIS-MODEL"
"""Stands in commands for where the checkpoint lies; the hub's name takes its place."""
BEGIN, END = "<!-- drop_ray: results -->", "<!-- drop_ray: end of results -->"
"""Around what is said of results; the hub shows neither."""
NO_RESULTS = (
    "None: this card was written with the checkpoint, before anything was measured of it. `drop-ray push` writes those "
    "of a finished run into it. The scores in the base's card are the base's."
)
UNNAMED, NAMELESS = "A model", "A checkpoint without a name on the Hugging Face hub"
"""Stand in title and text for a base that was read from a folder."""
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class CardFacts:
    """What a card says."""

    base: tuple[str, str] | None
    """The base's name on the hub and its commit; None where it is a folder, of which the hub knows nothing."""
    base_card: str | None
    """The base's README.md."""
    lacks: DropLists
    """All sub-layers that it lacks, those included that the base lacks."""
    num_layers: int
    """Decoder layers of the base."""
    format: ExportFormat
    """The export format."""
    is_whole: bool
    """Whether it is a multimodal model, with its towers."""
    strategy: str | None
    """The rule by which its layers were chosen."""
    refit: str | None
    """How what is left was fitted anew, if it was."""
    notes: Sequence[str]
    """What else is to be said of its weights."""
    quantization: str | None
    """How its weights are stored, where they were quantized after dropping."""


def card_text(facts: CardFacts) -> str:
    """All below the metadata."""
    return "\n\n".join(_parts(facts)) + "\n"


def title_of(facts: CardFacts) -> str:
    """`Llama-3-8B without 8 attention layers, quantized`."""
    base = facts.base[0].rpartition("/")[2] if facts.base else UNNAMED
    changes = ["refitted"] * bool(facts.refit) + ["quantized"] * bool(facts.quantization)
    return ", ".join([f"{base} without {_counted(facts.lacks)}" if facts.lacks.count else base, *changes])


def _parts(facts: CardFacts) -> Iterator[str]:
    yield f"# {title_of(facts)}"
    made = (
        "made by drop_ray and not trained since" if facts.lacks.count or facts.quantization else "written by drop_ray"
    )
    yield f"{_base_link(facts)} is the base of this model, {made}."
    yield "## What was changed"
    yield "\n".join(f"- {line}" for line in _changes(facts))
    yield f"## Results\n\n{BEGIN}\n\n{NO_RESULTS}\n\n{END}"
    yield "## How to load it"
    yield from _loading(facts)
    yield "## How to serve it"
    yield _serving(facts)
    yield "## Limits"
    yield "\n".join(f"- {line}" for line in _limits(facts))
    yield "## The base"
    if facts.base_card is not None:
        yield (
            f"[{BASE_CARD}]({BASE_CARD}) is the base's own card, as it was: what it was trained on, what it is for, "
            "and its licence, which holds here too. Its scores are the base's, not this model's."
        )
    else:
        yield "The base came without a card. Its licence holds here too."


def _base_link(facts: CardFacts) -> str:
    if facts.base is None:
        return NAMELESS
    name, commit = facts.base
    return f"[{name}]({HUB}/{name}) at commit `{commit}`"


def _changes(facts: CardFacts) -> Iterator[str]:
    lacks = facts.lacks
    yield f"layers of the base: {facts.num_layers}"
    for what, layers in (("attention", lacks.attn), ("MLP", lacks.mlp)):
        yield f"layers without {what}: {layer_ranges(layers) if layers else 'none'}"
    if facts.strategy and facts.strategy != "base":
        yield "chosen by hand" if facts.strategy == "file" else f"chosen by the strategy `{facts.strategy}`"
    if facts.refit:
        yield f"refitted: {facts.refit}"
    if facts.quantization:
        yield f"weights: {facts.quantization}"
    elif not facts.refit:
        yield "weights: what is kept is the base's own, byte for byte"
    yield from facts.notes
    yield f"export format: `{facts.format}`"


def _loading(facts: CardFacts) -> Iterator[str]:
    auto = "AutoModelForImageTextToText" if facts.is_whole else "AutoModelForCausalLM"
    if facts.format == "nemotron-nas":
        yield "vLLM loads it by itself, with `--trust-remote-code` for the file that describes its `config.json`."
        return
    if facts.format == "config-only":
        yield "It has no weights: link those of the base into its folder first."
    if facts.format == "plain":
        yield _python(f"from transformers import {auto}", f'model = {auto}.from_pretrained("{FOLDER}")')
        return
    yield _python(
        "import drop_ray  # registers the types of dropped models with transformers",
        f"from transformers import {auto}",
        "",
        f'model = {auto}.from_pretrained("{FOLDER}")',
    )
    yield _python(
        f'model = {auto}.from_pretrained(\n    "{FOLDER}", trust_remote_code=True\n)  # without drop_ray installed'
    )
    yield _python('model = drop_ray.load("path/of/a/local/copy")  # refuses missing or unexpected tensors')
    if facts.format in ("llm-drop", "config-only"):
        yield "Other software does not see the drop lists in `config.json`, and silently loads the base."
    else:
        yield (
            "Other software refuses its model type. Do not load it by the base's own class: that fills what is absent "
            "with random weights."
        )


def _serving(facts: CardFacts) -> str:
    if facts.format == "plain":
        return f"```\nvllm serve {FOLDER}\n```"
    if facts.format == "nemotron-nas":
        return f"```\nvllm serve {FOLDER} --trust-remote-code\n```"
    return f"With `pip install 'drop-ray[gpu]'`, whose plugin vLLM finds:\n\n```\nvllm serve {FOLDER}\n```"


def _limits(facts: CardFacts) -> Iterator[str]:
    if facts.lacks.count:
        yield "What dropping costs depends on the text and the task: what was not measured may be lost."
    if not facts.refit and facts.lacks.count:
        yield "Nothing was trained or fitted anew after dropping."
    yield "The base's limits, biases and conditions of use hold for it too."


def _python(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def _counted(lacks: DropLists) -> str:
    """`2 blocks and 8 attention layers`."""
    both = {*lacks.attn} & {*lacks.mlp}
    counts = {"block": len(both), "attention layer": len(lacks.attn) - len(both), "MLP": len(lacks.mlp) - len(both)}
    return " and ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count)
