"""An engine as the evaluation asks it (`evaluation/tokens/token_model.py`)."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from drop_ray.evaluation.tokens import token_model
from drop_ray.evaluation.tokens.token_model import Continuation, Likelihood, TokenCounts
from drop_ray.serving.engine import Completion, Engine
from drop_ray.text.progress import ignore_progress

# Requests that are sent to an engine's process at a time: their token ids take memory in both.
SENT = 8192


class EngineTokens:
    """Answers from an engine that was built with `evaluates`, for sequences of up to `max_length` tokens."""

    def __init__(self, engine: Engine, max_length: int):
        self._engine, self._max_length = engine, max_length
        self.counts = TokenCounts()
        self.progress: Callable[[int, int], None] = ignore_progress

    @property
    def max_length(self) -> int:
        return self._max_length

    def likelihoods(self, requests: Sequence[Continuation]) -> list[Likelihood]:
        # Sorted before they are sent, so that few prefixes are parted.
        order = sorted(range(len(requests)), key=lambda number: requests[number])
        answers: dict[int, Likelihood] = {}
        for part in (order[start : start + SENT] for start in range(0, len(order), SENT)):
            asked = [requests[number] for number in part]
            scores = self._engine.score([each.context for each in asked], [each.target for each in asked])
            self.counts.add(sum(len(each.context) + len(each.target) - 1 for each in asked), scores.computed)
            for number, score in zip(part, scores.scores, strict=True):
                answers[number] = Likelihood(score.total, score.is_greedy)
            self.progress(len(answers), len(requests))
        return [answers[number] for number in range(len(requests))]

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[int] = ()
    ) -> list[tuple[int, ...]]:
        way = token_model.Completion(max_tokens, tuple(stop), ())
        return [answer.tokens for answer in self.complete(prompts, [way] * len(prompts))]

    def complete(
        self, prompts: Sequence[Sequence[int]], how: Sequence[token_model.Completion]
    ) -> list[token_model.Completed]:
        alike: dict[token_model.Completion, list[int]] = defaultdict(list)
        for number, way in enumerate(how):
            alike[way].append(number)
        answers: dict[int, token_model.Completed] = {}
        for way, numbers in alike.items():
            wanted = Completion((way.max_tokens,) * len(numbers), way.stop_tokens, way.stop, dict(way.sampling))
            completed = self._engine.complete([tuple(prompts[number]) for number in numbers], wanted)
            total = sum(len(prompts[number]) for number in numbers) + sum(map(len, completed.tokens))
            self.counts.add(total, completed.computed)
            for number, tokens, is_finite in zip(numbers, completed.tokens, completed.finite, strict=True):
                answers[number] = token_model.Completed(tokens, is_finite)
        return [answers[number] for number in range(len(prompts))]
