"""The metrics of a generation, by name."""

from collections.abc import Iterator, Sequence

import numpy as np

from drop_ray.serving.engine import Generation

PERCENTILES = (50, 95, 99)


def higher_is_better(metric: str) -> bool:
    return metric.endswith("_per_s")


def measures(generation: Generation, prompt_tokens: int) -> dict[str, float]:
    """Every metric of one batch. Metrics of decoding are absent where each request has one output token.

    Prefill lasts until the last request has its first token. The decode rate is the sum of the requests' own rates from
    their first token on: in a large batch some decode while others still prefill, which slows them.
    """
    requests, lengths = generation.requests, [len(tokens) for tokens in generation.tokens]
    values = {
        "output_tokens_per_s": sum(lengths) / generation.wall,
        "prefill_tokens_per_s": prompt_tokens * len(requests) / max(request.ttft for request in requests),
    }
    between = [request.tpot for request in requests if request.tpot is not None]
    if between:
        values["decode_tokens_per_s"] = sum(1 / seconds for seconds in between)
    values |= dict(_percentiles("ttft", [request.ttft for request in requests]))
    if between:
        values |= dict(_percentiles("tpot", between))
    return values | dict(_percentiles("e2e", [request.e2e for request in requests]))


def _percentiles(name: str, seconds: Sequence[float]) -> Iterator[tuple[str, float]]:
    for percentile in PERCENTILES:
        yield f"{name}_p{percentile}_s", float(np.percentile(seconds, percentile))
