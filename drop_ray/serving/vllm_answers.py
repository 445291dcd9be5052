"""What the evaluation asks of vLLM: how likely continuations are, and texts up to a stop.

A prompt's inputs are asked for once: the token after them is predicted, with the log-probabilities of all last tokens
that are wanted, so that choices of one token are one request. The tokens before them come from the prompt's own
log-probabilities. vLLM has these only for what it computes. For such requests it reads its cache of prefixes only when
told so, and then positions that came from the cache hold garbage: an answer counts if the cache ends before the
continuation does begin, or else it is asked for again, without the cache.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vllm import LLM, SamplingParams
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

from drop_ray.serving.engine import Completed, Completion, Prompts, Score, Scores


@dataclass
class _Request:
    """All that is asked of equal inputs."""

    inputs: tuple[int, ...]
    """Token ids of the prompt."""
    start: int
    """Length of the shortest context, from which on its own log-probabilities are needed."""
    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Number and target of each question."""

    @property
    def is_short(self) -> bool:
        """Whether only the next token is judged."""
        return self.start == len(self.inputs)

    @property
    def last_tokens(self) -> list[int]:
        return sorted({target[-1] for _, target in self.asked})

    def sampling(self, skip_cache: bool) -> SamplingParams:
        return SamplingParams(
            temperature=0,
            max_tokens=1,
            ignore_eos=True,
            detokenize=False,
            logprob_token_ids=self.last_tokens,
            prompt_logprobs=None if self.is_short else 0,
            flat_logprobs=True,  # no objects for the rows that nobody reads
            skip_reading_prefix_cache=skip_cache,
        )

    def counts(self, output: Any) -> bool:
        """Whether everything that is judged was computed: the prediction of a token comes from the one before."""
        return self.is_short or (output.num_cached_tokens or 0) <= self.start - 1

    def scores(self, output: Any) -> Iterator[tuple[int, Score]]:
        generated = output.outputs[0]
        (last,) = generated.logprobs
        for number, target in self.asked:
            # Counted from the end: what came from the cache may have no rows.
            before = output.prompt_logprobs[len(self.inputs) - len(target) + 1 :] if len(target) > 1 else []
            entries = [row[token] for row, token in zip(before, target, strict=False)]
            greedy = all(entry.rank == 1 for entry in entries) and generated.token_ids[0] == target[-1]
            yield number, Score(sum(entry.logprob for entry in entries) + last[target[-1]].logprob, greedy)


def score(llm: LLM, contexts: Prompts, targets: Prompts) -> Scores:
    """The scores of the targets after their contexts, none of either empty."""
    waiting = _requests(contexts, targets)
    found: dict[int, Score] = {}
    computed = asked_again = 0
    for skip_cache in (False, True):
        again = []
        prompts: list[Any] = [{"prompt_token_ids": list(request.inputs)} for request in waiting]
        outputs = llm.generate(prompts, [request.sampling(skip_cache) for request in waiting], use_tqdm=False)
        for request, output in zip(waiting, outputs, strict=True):
            computed += len(request.inputs) - (output.num_cached_tokens or 0)
            if request.counts(output):
                found.update(request.scores(output))
            else:
                again.append(request)
        if not again:
            break
        asked_again, waiting = len(again), again
    return Scores(tuple(found[number] for number in range(len(targets))), computed, asked_again)


def complete(llm: LLM, prompts: Prompts, completion: Completion) -> Completed:
    """The prompts completed. Those with equal beginnings come one after the other."""
    order = sorted(range(len(prompts)), key=lambda number: tuple(prompts[number]))
    sampling = [
        SamplingParams(
            **{"temperature": 0, **_drawn(completion, number)},
            max_tokens=completion.max_tokens[number],
            ignore_eos=True,
            stop_token_ids=list(completion.stop_tokens),
            stop=list(completion.stop),
            include_stop_str_in_output=True,
            # A stop string may be the text of a special token.
            skip_special_tokens=False,
            detokenize=bool(completion.stop),
            logprobs=0,
        )
        for number in order
    ]
    asked: list[Any] = [{"prompt_token_ids": list(prompts[number])} for number in order]
    tokens: dict[int, tuple[int, ...]] = {}
    finite: dict[int, bool] = {}
    computed = 0
    for number, output in zip(order, llm.generate(asked, sampling, use_tqdm=False), strict=True):
        generated = output.outputs[0]
        tokens[number] = tuple(generated.token_ids)
        rows: Sequence[Any] = generated.logprobs
        finite[number] = all(math.isfinite(row[t].logprob) for row, t in zip(rows, tokens[number], strict=True))
        computed += len(prompts[number]) - (output.num_cached_tokens or 0) + len(tokens[number])
    numbers = range(len(prompts))
    return Completed(tuple(tokens[n] for n in numbers), tuple(finite[n] for n in numbers), computed)


def _drawn(completion: Completion, number: int) -> dict[str, Any]:
    """Settings by which tokens are drawn: another seed for each text, so that equal prompts get several answers."""
    settings = dict(completion.sampling)
    return settings | {"seed": int(settings["seed"]) + number} if "seed" in settings else settings


def _requests(contexts: Prompts, targets: Prompts) -> list[_Request]:
    """One request for equal inputs, or more for more last tokens than vLLM gives. Sorted, so that prefixes meet."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, (context, target) in enumerate(zip(contexts, targets, strict=True)):
        alike[(*context, *target[:-1])].append(number)
    requests = []
    for inputs in sorted(alike):
        numbers = sorted(alike[inputs], key=lambda number: targets[number][-1])
        for part in range(0, len(numbers), MAX_LOGPROB_TOKEN_IDS):
            own = numbers[part : part + MAX_LOGPROB_TOKEN_IDS]
            start = min(len(contexts[number]) for number in own)
            requests.append(_Request(inputs, start, [(number, tuple(targets[number])) for number in own]))
    return requests
