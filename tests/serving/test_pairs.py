"""The order of a pair's sides, and metrics by hand."""

import pytest

from drop_ray.config import ServingConfig
from drop_ray.serving.engine import Generation, RequestTiming
from drop_ray.serving.measures import measures
from drop_ray.serving.pairs import Point, alternating, prefill_share, rows_of
from drop_ray.serving.roofline import Prediction


def test_sides_alternate_so_that_neither_always_goes_first():
    assert ["".join(side[0] for side in order) for order in alternating(4)] == ["bv", "vb", "bv", "vb"]


def generation(seconds=1.0, requests=2, output=5):
    """Each request: half a second to the first token, then `seconds` between tokens, times its number."""
    timings = tuple(
        RequestTiming(0.5 * n, seconds * n if output > 1 else None, 0.5 * n + seconds * n * (output - 1))
        for n in range(1, requests + 1)
    )
    return Generation(max(timing.e2e for timing in timings), timings, ((7,) * output,) * requests)


def test_metrics_of_a_batch_by_hand():
    found = measures(generation(), prompt_tokens=10)
    assert found["output_tokens_per_s"] == pytest.approx(2 * 5 / 9)
    assert found["prefill_tokens_per_s"] == pytest.approx(2 * 10 / 1.0)
    assert found["decode_tokens_per_s"] == pytest.approx(1 + 1 / 2)
    assert (found["ttft_p50_s"], found["tpot_p50_s"]) == (pytest.approx(0.75), pytest.approx(1.5))
    assert found["e2e_p99_s"] == pytest.approx(4.5 + 0.99 * 4.5)


def test_one_token_has_no_decoding():
    found = measures(generation(output=1), prompt_tokens=10)
    assert not [metric for metric in found if metric.startswith(("decode", "tpot"))]
    assert prefill_share(generation(output=1)) == 1


def test_rows_hold_medians_and_the_ratio_within_pairs():
    serving = ServingConfig.model_validate({"workloads": [{"prompt": 10, "output": 5, "name": "mixed"}]})
    # The machine gets slower from pair to pair; within each pair the variant takes half of the time.
    pairs = [{"base": generation(speed), "variant": generation(speed / 2)} for speed in (1.0, 2.0, 8.0)]
    point = Point(serving.workloads[0], "equal_batch", 2, 2)
    prediction = Prediction(decode=2.0, prefill=1.5, decode_flops=2.0, prefill_bytes=1.5, batch_ratio=1.0)
    rows = {row["metric"]: row for row in rows_of(point, pairs, serving, False, prediction)}
    decode = rows["decode_tokens_per_s"]
    assert (decode["ratio"], decode["low"], decode["high"]) == (pytest.approx(2),) * 3
    assert (decode["base"], decode["plan"]) == (pytest.approx(1.5 / 2), pytest.approx(1.5))
    assert rows["tpot_p95_s"]["ratio"] == pytest.approx(2)
    assert rows["ttft_p50_s"]["ratio"] == pytest.approx(1)
    assert (rows["decode_tokens_per_s"]["predicted"], rows["ttft_p99_s"]["predicted"]) == (2.0, 1.5)
    assert (decode["workload"], decode["control"], decode["pairs"]) == ("mixed", False, 3)
