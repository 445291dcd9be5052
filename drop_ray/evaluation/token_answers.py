"""lm-eval's questions asked of a `TokenModel`, whichever backend it is.

A mixin of models of lm-eval: prompts, tokens and truncation are as those of lm-eval's own hf model, all requests of a
task are asked at once.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval import utils

from drop_ray.errors import UserError
from drop_ray.evaluation.tokens.token_model import Continuation, TokenModel

# What lm-eval asks: (context and continuation as text or None, tokens of the context, tokens of the continuation).
Asked = tuple[Any, list[int], list[int]]


class TokenAnswers:
    """Log-likelihoods by `tokens`, for a model of lm-eval with `tok_encode`, `prefix_token_id` and `max_length`."""

    tokens: TokenModel

    def _loglikelihood_tokens(
        self, requests: Sequence[Asked], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        del disable_tqdm, override_bs
        asked = [
            truncated(context, target, self.tokens.max_length, texts[1] if texts else "a text")
            for texts, context, target in requests
        ]
        return [(answer.total, answer.is_greedy) for answer in self.tokens.likelihoods(asked)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each whole text, in windows that each predict what no other does."""
        del disable_tqdm
        windows: list[Asked] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            own = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text),  # type: ignore[attr-defined]
                prefix_token=self.prefix_token_id,  # type: ignore[attr-defined]
                max_seq_len=self.max_length,  # type: ignore[attr-defined]
                context_len=1,
            )
            windows += [(None, *utils.make_disjoint_window(window)) for window in own]
            owners += [number] * (len(windows) - len(owners))
        totals = [0.0] * len(requests)
        for number, (total, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[number] += total
        return totals


def truncated(context: Sequence[int], target: Sequence[int], max_length: int, what: str) -> Continuation:
    """What is left of a question whose inputs, all but the last token of the target, are too long: the end of them."""
    if not target:
        raise UserError(f"evaluation.tasks: {what[:40]!a} is to be judged, and has no tokens")
    if len(target) > max_length:
        raise UserError(
            f"evaluation.max_length: {what[:40]!a} is to be judged, and its {len(target)} tokens are more than "
            f"{max_length}"
        )
    kept = max_length + 1 - len(target)
    return Continuation(tuple(context[-kept:]), tuple(target))
