"""All gates: which of them a model can be asked, and its answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from drop_ray.config.gates import GatesConfig
from drop_ray.errors import NotFiniteError
from drop_ray.evaluation.gates import arithmetic, brackets, copying, needle
from drop_ray.evaluation.gates.gate import Gate
from drop_ray.evaluation.gates.repetition import RepetitionGate
from drop_ray.evaluation.gates.result import Answers, GateResult, SkippedGate
from drop_ray.evaluation.gates.writer import Writer
from drop_ray.evaluation.tokens.token_model import TokenModel
from drop_ray.text.progress import ignore_progress


@dataclass(frozen=True)
class Entry:
    """A gate in the list."""

    name: str
    """Its name in files."""
    title: str
    """Its name for people."""
    why_not: str | None
    """Why it cannot be made; None if it can."""
    make: Callable[[], Gate]
    """Makes it."""
    length: int | None = None
    """Tokens that its texts are to have at most, where it is about a length."""


def ask(
    config: GatesConfig,
    writer: Writer,
    stop: Sequence[int],
    model: TokenModel,
    progress: Callable[[int, int], None] = ignore_progress,
) -> Answers:
    """A model's answers to all gates. stop: ids that end a text; progress: told how many gates are done."""
    results: list[GateResult] = []
    skipped: list[SkippedGate] = []
    listed = list(entries(config, writer, stop))
    for number, entry in enumerate(listed):
        progress(number, len(listed))
        gate = made(entry, model.max_length)
        if isinstance(gate, SkippedGate):
            skipped.append(gate)
            continue
        try:
            results += gate.ask(model)
        except NotFiniteError as error:
            results.append(GateResult(gate.name, gate.title, 0.0, fault=str(error)))
    return Answers(tuple(results), tuple(skipped))


def entries(config: GatesConfig, writer: Writer, stop: Sequence[int]) -> Iterator[Entry]:
    """The gates in their order."""
    drawn, tokens = (writer, config.seed, config.num_items), config.generated_tokens
    few = len(writer.ordinary)
    too_few = f"there are {few} ordinary tokens, and it takes {copying.FEWEST}" if few < copying.FEWEST else None
    hay = writer.why_not(*needle.texts())
    for length in config.needle_lengths:
        make = partial(needle.needle_gate, *drawn, length)
        yield Entry(f"needle-{length}", needle.title(length), hay, make, length)
    sums, closing = (writer.why_not(*one.texts()) for one in (arithmetic, brackets))
    yield Entry("arithmetic", arithmetic.TITLE, sums, partial(arithmetic.arithmetic_gate, *drawn))
    yield Entry("brackets", brackets.TITLE, closing, partial(brackets.brackets_gate, *drawn))
    yield Entry("copying", copying.TITLE, too_few, partial(copying.copying_gate, *drawn))
    yield Entry("repetition", "repetition", too_few, partial(RepetitionGate, *drawn, tokens, stop))


def made(entry: Entry, max_length: int) -> Gate | SkippedGate:
    """The gate, or why a model that takes `max_length` tokens cannot be asked."""
    if entry.length is not None and entry.length > max_length:
        return _skipped(entry, f"it is longer than the {max_length:,} tokens that the model is evaluated with")
    if entry.why_not is not None:
        return _skipped(entry, entry.why_not)
    gate = entry.make()
    if entry.length is not None and gate.longest > entry.length:
        return _skipped(entry, f"needle and question alone have up to {gate.longest:,} tokens")
    if gate.longest > max_length:
        return _skipped(
            entry, f"it takes {gate.longest:,} tokens, more than the {max_length:,} that the model is evaluated with"
        )
    return gate


def _skipped(entry: Entry, reason: str) -> SkippedGate:
    return SkippedGate(entry.name, entry.title, reason)
