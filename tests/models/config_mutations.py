"""Every field of a config.json of several families, replaced by values of every kind: a model, or a clear error.

    python tests/models/config_mutations.py [--every 1] [--family NAME]

Prints for each family how many mutations gave a model, an error for the user, a traceback, and how many took too long;
then the first of these. Exit code 1 if there was any. A family is one line of FAMILIES.
"""

import argparse
import copy
import json
import logging
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from quantized_bases import write_quantized_base
from tiny_models import make_model

from drop_ray.errors import UserError
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.config_fields import RULES
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.probe import check_architecture
from drop_ray.models.quantized_base.kinds import FIELD as STORED_FORM

LIMIT_S = 20.0  # of a machine that is busy otherwise; each takes milliseconds
REMOVED = "removed"
VALUES = (None, "x", "", -1, 0, 0.5, 1 << 40, 10**30, 1e300, [], [1], ["full_attention"], {}, {"a": 1}, True, False)
TOKENS = torch.arange(3, 27).reshape(2, 12)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "mscale": 1.0}
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
# Kinds of quantized bases, of which `quantization_config` alone is mutated, with a class that has them.
QUANTIZED = {"fp8": "LlamaForCausalLM", "mxfp4": "GptOssForCausalLM", "int4": "Qwen3MoeForCausalLM"}
# Names of classes, with fields beside those of the tiny models.
FAMILIES: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"rope_parameters": {**LLAMA_3, "rope_theta": 10000.0}},
    "Qwen3MoeForCausalLM": {},
    "Gemma3ForCausalLM": {},
    "Phi3ForCausalLM": {"rope_parameters": {**LONGROPE, "rope_theta": 10000.0}, "original_max_position_embeddings": 64},
    "DeepseekV3ForCausalLM": {"rope_parameters": {**YARN, "rope_theta": 10000.0}},
    "GraniteForCausalLM": {},
    "GptOssForCausalLM": {},
    "Glm4MoeForCausalLM": {},
    "Qwen3NextForCausalLM": {},
    "GraniteMoeHybridForCausalLM": {},
    "Lfm2ForCausalLM": {},
    "JambaForCausalLM": {},
    "FalconH1ForCausalLM": {},
    "OlmoHybridForCausalLM": {},
    "Cohere2ForCausalLM": {},
}


@dataclass(frozen=True)
class Mutation:
    """One field of a config.json with another value."""

    path: tuple[str, ...]
    """The field, in the objects that it is in."""
    before: Any
    """Its value."""
    after: Any
    """What it is replaced by, or REMOVED."""

    def made_in(self, config: dict[str, Any]) -> dict[str, Any]:
        changed = copy.deepcopy(config)
        place = changed
        for name in self.path[:-1]:
            place = place[name]
        if self.after == REMOVED:
            del place[self.path[-1]]
        else:
            place[self.path[-1]] = self.after
        return changed

    @property
    def is_of_another_type(self) -> bool:
        """Whether the new value is of a type that the field never has, and drop_ray itself looks at the field."""
        numbers = (int, float)
        is_kept = self.after in (None, REMOVED) or type(self.after) is type(self.before)
        is_number = type(self.after) in numbers and type(self.before) in numbers
        is_list = isinstance(self.after, list)  # of a size for each layer
        is_read = any(rule.fields.fullmatch(self.path[0]) for rule in RULES)
        return is_read and self.before is not None and not (is_kept or is_number or is_list)


@dataclass
class Tally:
    """What came of the mutations of one family."""

    models: int = 0
    """Mutations that gave a model."""
    errors: list[tuple[Mutation, str]] = field(default_factory=list)
    """Those that gave an error for the user, with its text."""
    silent: list[Mutation] = field(default_factory=list)
    """Those of another type that were taken all the same."""
    faults: list[str] = field(default_factory=list)
    """A traceback for each that gave anything else."""
    slow: list[Mutation] = field(default_factory=list)
    """Those that took too long."""


class SlowError(BaseException):
    """Ends what does not end; no library catches it."""


def mutations(config: dict[str, Any], outer: tuple[str, ...] = ()) -> Iterator[Mutation]:
    """Of every field, also of those in objects."""
    for name, value in config.items():
        for after in (*VALUES, REMOVED):
            if not (type(after) is type(value) and after == value):
                yield Mutation((*outer, name), value, after)
        if isinstance(value, dict):
            yield from mutations(value, (*outer, name))


def write_model(family: str, folder: Path) -> Path:
    """A tiny checkpoint of the family, or kind of quantized base."""
    if family in QUANTIZED:
        return write_quantized_base(folder, family, QUANTIZED[family])
    make_model(family, **FAMILIES[family]).save_pretrained(folder)
    return folder


def use(folder: Path) -> None:
    """What a run does with a model: look at it without weights, load it without some sub-layers, compute with it."""
    checkpoint = open_checkpoint(folder)
    check_architecture(checkpoint, allow_unlisted=True)
    measure(build_skeleton(read_config(checkpoint), DropLists(), torch.bfloat16))
    model = load_model(checkpoint, DropLists((1,), (2,)))
    with torch.no_grad():
        model(TOKENS, use_cache=False)


def try_family(family: str, folder: Path, every: int = 1) -> Tally:
    """Use a model with each `every`-th mutation of its config.json."""
    write_model(family, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    of_config = mutations(config)
    if family in QUANTIZED:
        of_config = (one for one in of_config if one.path[0] == STORED_FORM)
    tally = Tally()
    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for mutation in list(of_config)[::every]:
            path.write_text(json.dumps(mutation.made_in(config)))
            _try(mutation, folder, tally)
    finally:
        signal.signal(signal.SIGALRM, before)
    return tally


def _try(mutation: Mutation, folder: Path, tally: Tally) -> None:
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        use(folder)
        tally.models += 1
        if mutation.is_of_another_type:
            tally.silent.append(mutation)
    except UserError as error:
        tally.errors.append((mutation, str(error)))
    except SlowError:
        tally.slow.append(mutation)
    except Exception:
        tally.faults.append(f"{mutation}\n{traceback.format_exc(limit=-2)}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def unnamed(tally: Tally) -> list[tuple[Mutation, str]]:
    """Errors over a value of a type that the field never has, without the field's name."""
    return [
        (mutation, text)
        for mutation, text in tally.errors
        if mutation.is_of_another_type and not any(name in text for name in mutation.path)
    ]


def _too_slow(*_: object) -> None:
    raise SlowError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="leave out all but each so-many-th mutation")
    parser.add_argument("--family", choices=[*FAMILIES, *QUANTIZED], help="only that one")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"{'family':24}{'models':>8}{'errors':>8}{'unnamed':>9}{'silent':>8}{'tracebacks':>12}{'too long':>10}")
    bad: list[Any] = []
    with tempfile.TemporaryDirectory() as scratch:
        for family in [options.family] if options.family else [*FAMILIES, *QUANTIZED]:
            tally = try_family(family, Path(scratch) / family, options.every)
            nameless = unnamed(tally)
            counts = f"{tally.models:8}{len(tally.errors):8}{len(nameless):9}{len(tally.silent):8}"
            print(f"{family:24}{counts}{len(tally.faults):12}{len(tally.slow):10}", flush=True)
            bad += [*nameless, *tally.silent, *tally.faults, *tally.slow]
    for one in bad[:20]:
        print(f"\n{one}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
