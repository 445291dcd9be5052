"""Runs lm-eval tasks on a loaded model, with the same numbers in any process, whatever ran before."""

import copy
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lm_eval.evaluator import evaluate
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drop_ray.errors import UserError
from drop_ray.evaluation.document_rows import document_rows
from drop_ray.evaluation.engine_model import EngineModel
from drop_ray.evaluation.finite_model import FiniteModel, SharingModel
from drop_ray.evaluation.logged_samples import logged_samples
from drop_ray.evaluation.metrics import metric_rows
from drop_ray.evaluation.plain_results import json_value, without_folders
from drop_ray.evaluation.quiet import quiet
from drop_ray.evaluation.result import MetricValue, TaskRequest, TaskResult, document_table
from drop_ray.evaluation.targets.base_answers import BaseAnswers, evaluated_whole, values_of
from drop_ray.evaluation.targets.target import Outcome
from drop_ray.evaluation.targets.targeted import pursue
from drop_ray.evaluation.tasks.catalog import Catalog
from drop_ray.evaluation.tasks.fewshot import seed_by_document
from drop_ray.evaluation.tasks.opening import load_tasks, set_shots
from drop_ray.evaluation.tasks.resolving import check_request
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel
from drop_ray.evaluation.tokens.token_model import CompletingModel, TokenCounts, telling
from drop_ray.text.progress import ignore_progress

logger = logging.getLogger(__name__)

# Standard errors of means are analytic; f1, mcc, median, perplexity (not those of rolling tasks), bleu, chrf and ter
# are bootstrapped from lm-eval's fixed seeds: one block of draws.
_BOOTSTRAP_DRAWS = 1000


class Harness:
    """A model of lm-eval, kept to evaluate many tasks.

    `seed` draws the few-shot examples of each document, and starts every random generator before each task. With
    `apply_chat_template`, few-shot examples are turns of their own.
    """

    def __init__(
        self,
        model: Any,
        *,
        include_path: str | None,
        seed: int,
        apply_chat_template: bool = False,
        system_instruction: str | None = None,
    ) -> None:
        self._model = model
        self._catalog = Catalog(include_path)
        self._seed = seed
        self._prompting = {
            "system_instruction": system_instruction,
            "apply_chat_template": apply_chat_template,
            "fewshot_as_multiturn": apply_chat_template,
        }

    def evaluate(
        self,
        request: TaskRequest,
        base: BaseAnswers | None = None,
        keep_samples: bool = False,
        progress: Callable[[int, int], None] = ignore_progress,
    ) -> TaskResult:
        """Run one task, tag or group; with a target and the base's answers, on as many documents as that takes.

        Reads the datasets, and downloads those of the hub that are not cached. Raises UserError for an unknown task,
        for one that cannot be run as requested, for data that cannot be read, and for fewer few-shot documents than
        asked for. All are found by `resolving.resolve_tasks` and `opening.open_tasks` before a model is loaded.

        A task with a log-likelihood that is NaN or infinite has no number itself: its metrics are NaN. `keep_samples`
        adds prompts and responses. `progress` is told how many requests of how many are done.
        """
        check_request(request, self._catalog.find(request.name))
        with quiet(progress), telling(getattr(self._model, "tokens", None), progress):
            self._start_generators()
            loaded = load_tasks(self._catalog, request.name)
            for task in loaded["tasks"].values():
                set_shots(task, request)
                seed_by_document(task, self._seed)
            self._model.faults.clear()
            if request.target is not None and base is not None:
                return self._pursued(request, loaded, base, keep_samples)
            results = self._results(self._model, loaded, limit=request.limit)
        metrics = metric_rows(request.name, results, loaded["tasks"], loaded["groups"], self._model.faults.keys())
        return self._result(request, results, loaded, metrics, [], keep_samples)

    def _pursued(self, request: TaskRequest, loaded: Any, base: BaseAnswers, keep_samples: bool) -> TaskResult:
        """The documents that the target takes; all of a task without a mean in [0, 1], to which no interval applies."""
        tasks, faults = loaded["tasks"], self._model.faults
        leaves = {name: [name] for name in tasks}
        leaves |= {name: [leaf.task_name for leaf in group.get_all_tasks()] for name, group in loaded["groups"].items()}

        def run(model: Any, documents: Mapping[str, list[int]]) -> dict[str, Any]:
            chosen = {"tasks": {name: tasks[name] for name in documents}, "groups": {}}
            return self._results(model, chosen, samples=documents)

        try:
            pursuits = base.pursuits(request, leaves, self._seed)
            results = pursue(run, self._model, tasks, pursuits, faults)
        except ValueError as error:
            logger.warning("evaluation.limit: %s is evaluated whole: %s", request.name, error)
            faults.clear()
            results = self._results(self._model, loaded)
            metrics = metric_rows(request.name, results, tasks, loaded["groups"], faults.keys())
            outcomes = evaluated_whole(request, metrics, str(error))
        else:
            answered = values_of(document_rows(results["samples"], tasks))
            metrics = base.metric_rows(pursuits, answered, bool(faults))
            outcomes = [pursuit.outcome(bool(faults)) for pursuit in pursuits]
        return self._result(request, results, loaded, metrics, outcomes, keep_samples)

    def _results(self, model: Any, loaded: Any, **chosen: Any) -> dict[str, Any]:
        """lm-eval's result dictionary. chosen: `limit`, or `samples`."""
        self._start_generators()
        found: dict[str, Any] = evaluate(
            lm=model,
            task_dict=loaded,
            bootstrap_iters=_BOOTSTRAP_DRAWS,
            log_samples=True,
            **chosen,
            **self._prompting,
        )
        return found

    def _result(
        self,
        request: TaskRequest,
        results: dict[str, Any],
        loaded: Any,
        metrics: list[MetricValue],
        outcomes: Sequence[Outcome],
        keep_samples: bool,
    ) -> TaskResult:
        samples = results.pop("samples")
        for config in results["configs"].values():
            config["dataset_kwargs"] = without_folders(config.get("dataset_kwargs"))
        for fault in self._model.faults.values():
            logger.warning("%s; the task counts for nothing", fault)
        return TaskResult(
            task=request,
            metrics=metrics,
            documents=document_table(document_rows(samples, loaded["tasks"])),
            raw=json.loads(json.dumps(results, default=json_value)),
            outcomes=outcomes,
            samples=logged_samples(samples) if keep_samples else None,
        )

    def _start_generators(self) -> None:
        """Seed the global generators, with which tasks may shuffle while they load and sample while they generate."""
        random.seed(self._seed)
        np.random.seed(self._seed % 2**32)
        torch.manual_seed(self._seed)


class Evaluator(Harness):
    """A loaded model of transformers.

    `batch_size` is fixed, since padding changes the last bits of results. A `max_length` of None takes the model's own.
    Log-probabilities are float32 whatever the dtype of the model: in bfloat16 the choices of a task would tie.

    Prefixes are shared by `tokens`, which has the same model and the same lengths. Without it, or if it shares none,
    log-likelihoods are computed by lm-eval's own code.

    Raises UserError for a batch size that is not a positive integer (`auto` too), a tokenizer without a chat template
    when one is to be applied, and a tokenizer with neither a BOS nor an EOS token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        include_path: str | None,
        batch_size: int,
        seed: int,
        apply_chat_template: bool = False,
        system_instruction: str | None = None,
        max_length: int | None = None,
        tokens: HfTokenModel | None = None,
    ) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise UserError(
                f"evaluation.batch_size must be a positive integer, not {batch_size!r}: results depend on it"
            )
        check_tokenizer(tokenizer, apply_chat_template)
        arguments = {
            "pretrained": model,
            "backend": "causal",
            "tokenizer": copy.deepcopy(tokenizer),  # lm-eval sets a padding token on it
            "batch_size": batch_size,
            "max_length": max_length,
            "softmax_dtype": "float32",
        }
        if tokens is not None and tokens.shares:
            own: Any = SharingModel(tokens, **arguments)
        else:
            own = FiniteModel(TokenCounts() if tokens is None else tokens.counts, **arguments)
        super().__init__(
            own,
            include_path=include_path,
            seed=seed,
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
        )


class EngineEvaluator(Harness):
    """A model in an engine, asked by `tokens`. `config` is the base's transformers configuration.

    UserError as of `Evaluator`.
    """

    def __init__(
        self,
        tokens: CompletingModel,
        config: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        include_path: str | None,
        seed: int,
        apply_chat_template: bool = False,
        system_instruction: str | None = None,
    ) -> None:
        check_tokenizer(tokenizer, apply_chat_template)
        ends = config.eos_token_id
        super().__init__(
            EngineModel(
                tokens,
                tokenizer,
                vocabulary=config.vocab_size,
                end_tokens=ends if isinstance(ends, list) else [] if ends is None else [ends],
                seed=seed,
            ),
            include_path=include_path,
            seed=seed,
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
        )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, apply_chat_template: bool) -> None:
    """UserError if prompts cannot be made with the tokenizer."""
    if apply_chat_template and not tokenizer.chat_template:
        raise UserError("evaluation.apply_chat_template: the model's tokenizer has no chat template")
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise UserError("model: the tokenizer has neither a BOS nor an EOS token, one of which starts every text")
