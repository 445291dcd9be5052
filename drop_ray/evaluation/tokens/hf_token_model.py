"""A model of transformers as the evaluation asks it: what requests share is computed once (`prefix_rows`).

The rows of a batch are padded in front, so that they end together. Each token attends to its ancestors in its row and
to the prefix of the group, whose keys and values come from a cache: a mask says so, and positions are given. Dropped
layers and windows are the model's own matter, as in any forward pass.
"""

import logging
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby
from typing import Any

import torch
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.evaluation.tokens.greedy import greedy_tokens
from drop_ray.evaluation.tokens.prefix_cache import PrefixCache
from drop_ray.evaluation.tokens.prefix_rows import Question, Row, group_rows
from drop_ray.evaluation.tokens.sharing import MaskMaker, why_not_shared
from drop_ray.evaluation.tokens.streams import in_order
from drop_ray.evaluation.tokens.token_model import Continuation, Likelihood, TokenCounts
from drop_ray.models.spreading import devices_of
from drop_ray.text.progress import ignore_progress

logger = logging.getLogger(__name__)

# Tokens of the trial before the first answer: what its requests share, each context, each target.
TRIAL = (24, 8, 2)
# By how many nats per token a trial's answers may differ: in 16 bits, in which kernels for quantized weights compute
# too, predictions of unlikely tokens are coarse.
TOLERANCE, COARSE_TOLERANCE = 1e-3, 0.2

# Rows are computed where they have fewer tokens than this part of those of the whole sequences: their masks take time.
WORTH = 0.95

# The answers of a batch, by the numbers of their requests.
Found = list[tuple[int, Likelihood]]
Batch = Callable[[], Found]


class HfTokenModel:
    """Answers from a loaded model.

    `batch_size` rows, or prompts, are computed at a time. With `shares` off, or for a model that `why_not_shared` says
    no to, each sequence is a row of its own, padded at its end and without a mask, as lm-eval computes it. A model that
    is spread over several devices has as many batches in flight, so that all of them compute; `streams` sets another
    number. Neither changes what is in a batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        batch_size: int,
        max_length: int,
        shares: bool = True,
        streams: int | None = None,
    ):
        self._model, self._batch_size, self._max_length = model.eval(), batch_size, max_length
        reason = why_not_shared(model, max_length) if shares else None
        if reason:
            _say_once(reason)
        self.shares = shares and reason is None
        self.counts = TokenCounts()
        self.progress: Callable[[int, int], None] = ignore_progress
        self.streams = streams or len(devices_of(model))
        self._masks = MaskMaker(model) if self.shares else None
        self._is_tried = False

    @property
    def max_length(self) -> int:
        return self._max_length

    def likelihoods(self, requests: Sequence[Continuation]) -> list[Likelihood]:
        if self.shares and requests and not self._is_tried:
            self._try()
        questions = [_question(request, self._max_length) for request in requests]
        batches, computed = self._wholes(questions, requests)
        if self.shares:
            trees, in_trees = self._trees(questions, requests)
            if in_trees < WORTH * computed:
                batches, computed = trees, in_trees
        self.counts.add(sum(len(question.inputs) for question in questions), computed)
        answers: dict[int, Likelihood] = {}
        for found in in_order(batches, self.streams):
            answers.update(found)
            self.progress(len(answers), len(requests))
        return [answers[number] for number in range(len(requests))]

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[int] = ()
    ) -> list[tuple[int, ...]]:
        order = sorted(range(len(prompts)), key=lambda number: (-len(prompts[number]), tuple(prompts[number])))
        parts = self._parts(order)
        batches = [
            partial(greedy_tokens, self._model, [prompts[number] for number in part], max_tokens, stop)
            for part in parts
        ]
        rows: dict[int, tuple[int, ...]] = {}
        for part, generated in zip(parts, in_order(batches, self.streams), strict=True):
            rows.update(zip(part, generated, strict=True))
        self.counts.add(sum(map(len, prompts)) + sum(map(len, rows.values())))
        return [rows[number] for number in range(len(prompts))]

    def _parts(self, order: Sequence[Any]) -> list[Sequence[Any]]:
        return [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]

    def _wholes(self, questions: Sequence[Question], requests: Sequence[Continuation]) -> tuple[list[Batch], int]:
        """Batches of whole sequences, longest first, and how many tokens they compute. Equal ones are computed once."""
        order = sorted(range(len(questions)), key=lambda n: (-len(questions[n].inputs), questions[n].inputs))
        alike = [(inputs, [*numbers]) for inputs, numbers in groupby(order, key=lambda n: questions[n].inputs)]
        batches = [partial(self._whole, part, requests) for part in self._parts(alike)]
        return list(batches), sum(len(inputs) for inputs, _ in alike)

    def _trees(
        self,
        questions: Sequence[Question],
        requests: Sequence[Continuation],
        **sizes: int,
    ) -> tuple[list[Batch], int]:
        """Batches of rows that are prefix trees, and how many tokens they and their prefixes compute."""
        batches: list[Batch] = []
        computed = 0
        for group in group_rows(questions, **sizes):
            computed += len(group.prefix) + sum(len(row.tokens) for row in group.rows)
            parts = self._parts(group.rows)
            prefix = PrefixCache(self._model, group.prefix, len(parts))
            batches += [partial(self._tree, prefix, part, requests) for part in parts]
        return batches, computed

    @torch.inference_mode()
    def _whole(self, part: Sequence[tuple[Sequence[int], Sequence[int]]], requests: Sequence[Continuation]) -> Found:
        longest = max(len(inputs) for inputs, _ in part)
        ids = torch.zeros(len(part), longest, dtype=torch.long)
        for row, (inputs, _) in enumerate(part):
            ids[row, : len(inputs)] = torch.tensor(inputs)
        logits = self._model(ids.to(self._model.device), use_cache=False).logits
        found = []
        for row, (inputs, numbers) in enumerate(part):
            for number in numbers:
                target = requests[number].target
                found.append((number, _likelihood(logits[row, len(inputs) - len(target) : len(inputs)], target)))
        return found

    @torch.inference_mode()
    def _tree(self, prefix: PrefixCache, rows: Sequence[Row], requests: Sequence[Continuation]) -> Found:
        assert self._masks is not None
        width, device = max(len(row.tokens) for row in rows), self._model.device
        paths = [[[index + width - len(row.tokens) for index in path] for path in row.paths] for row in rows]
        judged = sorted({index for row in paths for path in row for index in path})
        place = {index: number for number, index in enumerate(judged)}
        positions = _padded([row.positions for row in rows], width).to(device)
        ends = _padded([[end + width - len(row.tokens) for end in row.ends] for row in rows], width).to(device)
        logits = self._model(
            input_ids=_padded([row.tokens for row in rows], width).to(device),
            position_ids=positions,
            attention_mask=self._masks.make(positions, ends, len(prefix)),
            past_key_values=prefix.of_rows(len(rows)),
            use_cache=len(prefix) > 0,
            logits_to_keep=torch.tensor(judged, device=device),
        ).logits
        found = []
        for row, (content, own) in enumerate(zip(rows, paths, strict=True)):
            for number, path in zip(content.questions, own, strict=True):
                chosen = logits[row, [place[index] for index in path]]
                found.append((number, _likelihood(chosen, requests[number].target)))
        return found

    def _try(self) -> None:
        """Ask a few requests both ways. UserError if the answers differ by more than rounding."""
        self._is_tried = True
        shared, own, target = TRIAL
        if shared + own + target > self._max_length:
            return
        draw = torch.Generator().manual_seed(0)
        rows = self._model.get_input_embeddings().weight.shape[0]

        def tokens(count: int) -> tuple[int, ...]:
            return tuple(torch.randint(rows, (count,), generator=draw).tolist())

        beginning = tokens(shared)
        contexts = [beginning + tokens(own) for _ in range(2)]
        requests = [Continuation(context, tokens(target)) for context in contexts for _ in range(2)]
        questions = [_question(request, self._max_length) for request in requests]
        ways = [self._wholes(questions, requests), self._trees(questions, requests, row_tokens=shared, prefix_cost=0)]
        plain, shared_ones = (dict(answer for batch in batches for answer in batch()) for batches, _ in ways)
        differences = [abs(plain[number].total - shared_ones[number].total) / target for number in plain]
        difference = sum(differences) / len(differences)
        # What is not finite is named where it is met in a task.
        is_fine = self._model.dtype == torch.float32 and not hasattr(self._model.config, "quantization_config")
        if math.isfinite(difference) and difference > (TOLERANCE if is_fine else COARSE_TOLERANCE):
            raise UserError(
                f"evaluation.share_prefixes: {type(self._model).__name__} gives other likelihoods where requests share "
                f"their beginnings, by {difference:.2g} nats per token on average; set it to false"
            )


@cache
def _say_once(reason: str) -> None:
    """Variants are loaded one after the other, and it is the same for all."""
    logger.warning("no prefixes are shared: %s; every sequence is computed whole", reason)


def _question(request: Continuation, max_length: int) -> Question:
    inputs = (request.context + request.target)[:-1]
    if len(inputs) > max_length:
        raise ValueError(f"a request has {len(inputs)} inputs, the model takes {max_length}")
    return Question(inputs, len(request.target))


def _padded(rows: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    """int64 [rows, width], with zeros in front."""
    padded = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, width - len(row) :] = torch.tensor(row)
    return padded


def _likelihood(logits: torch.Tensor, target: Sequence[int]) -> Likelihood:
    """Of a target from its logits [tokens, vocabulary]: log-probabilities in float32, their sum in float64."""
    log_probabilities = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    wanted = torch.tensor(target, device=logits.device)
    chosen = log_probabilities.gather(-1, wanted[:, None])
    return Likelihood(float(chosen.double().sum()), bool((log_probabilities.argmax(-1) == wanted).all()))
