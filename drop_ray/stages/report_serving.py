"""From what a benchmark left in the store (serving.parquet, serving.json) to the report's rows of one plan."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drop_ray.report.results import ServingFacts, ServingRow


def serving_rows(plan: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[ServingRow]:
    """rows: of serving.parquet, where `base` and `plan` are what each side was measured at."""
    for row in rows:
        values = {name: value for name, value in row.items() if name not in ("base", "plan")}
        yield ServingRow(plan=plan, base_value=row["base"], plan_value=row["plan"], **values)


def serving_facts(plan: str, facts: Mapping[str, Any]) -> ServingFacts:
    """facts: serving.json."""
    gate, kv, memory, engine = (facts[part] for part in ("gate", "kv", "memory", "engine"))
    return ServingFacts(
        plan=plan,
        engine=engine["name"],
        engine_version=engine["version"],
        device=engine["device"],
        kv_tokens_base=kv["base_tokens"],
        kv_tokens_plan=kv["plan_tokens"],
        kv_predicted_ratio=kv["predicted_ratio"],
        kv_bytes_per_token_base=kv["bytes_per_token_base"],
        kv_bytes_per_token_plan=kv["bytes_per_token_plan"],
        weights_bytes_base=memory["base_weights_bytes"],
        weights_bytes_plan=memory["plan_weights_bytes"],
        peak_bytes_base=memory["base_peak_bytes"],
        peak_bytes_plan=memory["plan_peak_bytes"],
        gate_dtype=gate["dtype"],
        gate_mean=gate["mean_difference"],
        gate_p99=gate["p99_difference"],
        gate_top1_agreement=gate["top1_agreement"],
        gate_tokens=gate["compared_tokens"],
        gate_greedy=gate["greedy_equal"],
    )
