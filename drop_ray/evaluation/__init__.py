"""Quality of a model on lm-eval tasks and by perplexity: requests in, metric rows and per-document values out.

`tasks.resolving.resolve_tasks` checks requests in the driver and gives them an identity. `harness.Evaluator` runs them
on a loaded model. `perplexity.evaluate_perplexity` needs no lm-eval. `estimates` compares what came back. `tokens` asks
models for token ids, `divergence` compares predictions with the base's, `gates` tests what must still work, `targets`
ends tasks early. Importing this package loads neither torch nor lm-eval.
"""

from drop_ray.evaluation.result import DOCUMENT_SCHEMA, MetricValue, TaskRequest, TaskResult

__all__ = ["DOCUMENT_SCHEMA", "MetricValue", "TaskRequest", "TaskResult"]
