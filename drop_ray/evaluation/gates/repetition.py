"""Free generation: whether a model that goes on with random words repeats itself, or stops too early.

One generation for both gates. It loops if at least half of its runs of four tokens stood in it before. It stops early
if it ends in its first quarter.
"""

from collections.abc import Sequence

from drop_ray.evaluation.gates.gate import Gate, random_of
from drop_ray.evaluation.gates.result import GateResult
from drop_ray.evaluation.gates.writer import TokenIds, Writer
from drop_ray.evaluation.tokens.token_model import TokenModel

PROMPT = 8
RUN = 4
LOOPING = 0.5
EARLY = 0.25


class RepetitionGate(Gate):
    """Asks for one generation after each prompt, and says two things of it."""

    name, title = "repetition", "repetition"

    def __init__(self, writer: Writer, seed: int, num_items: int, num_tokens: int, stop: Sequence[int]):
        """stop: ids that end a text."""
        self._num_tokens, self._stop = num_tokens, tuple(stop)
        self.prompts: list[TokenIds] = [
            writer.beginning + tuple(random_of(self.name, seed, number).choices(writer.ordinary, k=PROMPT))
            for number in range(num_items)
        ]

    @property
    def longest(self) -> int:
        return max(map(len, self.prompts)) + self._num_tokens

    def ask(self, model: TokenModel) -> list[GateResult]:
        texts = model.generate(self.prompts, self._num_tokens, self._stop)
        repeated = tuple(repeated_share(text) for text in texts)
        lengths = tuple(float(len(text)) for text in texts)
        stopped = [bool(text) and text[-1] in self._stop for text in texts]
        early = [end and len(text) <= EARLY * self._num_tokens for end, text in zip(stopped, texts, strict=True)]
        return [
            GateResult(self.name, "no loops", 0.0, tuple(share < LOOPING for share in repeated), repeated),
            GateResult("early-stop", "no early stop", 0.0, tuple(not one for one in early), lengths),
        ]


def repeated_share(tokens: Sequence[int]) -> float:
    """Share of the runs of four tokens that stood there before; 0 of a text that has none."""
    runs = [tuple(tokens[at : at + RUN]) for at in range(len(tokens) - RUN + 1)]
    return 1 - len({*runs}) / len(runs) if runs else 0.0
