"""Counts the tokens of tasks from their real requests, as far as their data is on this machine; loads no model.

Long tasks are counted on documents that are spread evenly over them. Nothing is downloaded.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import datasets
import huggingface_hub
from lm_eval.api.model import TemplateLM
from transformers import PreTrainedTokenizerBase

from drop_ray.errors import UserError
from drop_ray.evaluation.quiet import quiet
from drop_ray.evaluation.result import TaskRequest
from drop_ray.evaluation.tasks.catalog import Catalog
from drop_ray.evaluation.tasks.fewshot import seed_by_document
from drop_ray.evaluation.tasks.opening import load_tasks, set_shots
from drop_ray.evaluation.tasks.published_sizes import PUBLISHED
from drop_ray.evaluation.tasks.volume import TaskVolume, total, volume_of
from drop_ray.evaluation.tokens.token_model import Continuation
from drop_ray.replacing import replaced

# Documents that are counted of a request: of a group about as many in all, but some of each of its tasks.
SAMPLE, SAMPLE_OF_EACH = 256, 8
# What lm-eval generates at most where a task does not say.
GENERATED = 256


class Counter:
    """Counts tasks with one tokenizer. `max_length` cuts contexts on the left, as the evaluation does."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        include_path: str | None,
        seed: int,
        max_length: int | None,
        block: int,
        apply_chat_template: bool = False,
        system_instruction: str | None = None,
    ) -> None:
        """block: tokens that an engine caches together."""
        self._catalog = Catalog(include_path)
        self._model = _Recorder(tokenizer)
        self._seed, self._max_length, self._block = seed, max_length, block
        self._prompting = {
            "system_instruction": system_instruction,
            "apply_chat_template": apply_chat_template,
            "fewshot_as_multiturn": apply_chat_template,
            "chat_template": self._model.apply_chat_template if apply_chat_template else None,
            "tokenizer_name": "",
        }

    def count(self, request: TaskRequest) -> TaskVolume | None:
        """The volume of a request: of its data if that is here, else of published sizes; None if neither is known."""
        limit = request.limit if isinstance(request.limit, int) else None
        try:
            with quiet(), _offline(), _without_warnings():
                tasks = load_tasks(self._catalog, request.name)["tasks"]
        except UserError:
            size = PUBLISHED.get(request.name)
            return size.volume(request.num_fewshot or 0, limit, self._block) if size else None
        sample = max(SAMPLE_OF_EACH, SAMPLE // len(tasks))
        with quiet(), _without_warnings():
            return total([self._of_task(task, request, limit, sample) for task in tasks.values()])

    def _of_task(self, task: Any, request: TaskRequest, limit: int | None, sample: int) -> TaskVolume:
        set_shots(task, request)
        seed_by_document(task, self._seed)
        num_documents = min(len(task.eval_docs), limit or len(task.eval_docs))
        chosen = sorted({index * num_documents // sample for index in range(sample)})
        task.build_all_requests(samples=chosen, **self._prompting)
        documents: dict[int, list[Continuation]] = {}
        generated = 0
        for instance, continuation, new_tokens in self._encoded(task.instances):
            documents.setdefault(instance.doc_id, []).append(continuation)
            generated += new_tokens
        volume = volume_of(
            list(documents.values()),
            num_documents=num_documents,
            fixed_examples="first" in type(getattr(task, "sampler", None)).__name__.lower(),
            block=self._block,
        )
        return replace(volume, generated=round(generated * num_documents / len(documents)))

    def _encoded(self, instances: Sequence[Any]) -> Iterator[tuple[Any, Continuation, int]]:
        """Every request with its token ids, and how many tokens it generates at most."""
        judged = [one for one in instances if one.request_type in ("loglikelihood", "multiple_choice")]
        for instance, (context, target) in zip(judged, self._model.pairs(judged), strict=True):
            yield instance, self._cut(context, target), 0
        for instance in instances:
            if instance.request_type == "generate_until":
                text, settings = instance.args
                new_tokens = int(settings.get("max_gen_toks", settings.get("max_new_tokens", GENERATED)))
                yield instance, self._cut(self._model.tok_encode(text), [], new_tokens), new_tokens
            elif instance.request_type == "loglikelihood_rolling":
                first, *others = self._model.tok_encode(instance.args[0]) or [self._model.eot_token_id]
                yield instance, Continuation((self._model.eot_token_id,), (first, *others)), 0

    def _cut(self, context: Sequence[int], target: Sequence[int], room: int = 0) -> Continuation:
        kept = len(context) if self._max_length is None else max(1, self._max_length - len(target) - room)
        return Continuation(tuple(context[-kept:]), tuple(target))


class _Recorder(TemplateLM):  # type: ignore[misc]
    """A model without weights: lm-eval encodes requests for it as for any other."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._pairs: list[tuple[list[int], list[int]]] = []

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id or self.tokenizer.bos_token_id or 0)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        del kwargs
        encoded: list[int] = self.tokenizer.encode(string, add_special_tokens=bool(add_special_tokens))
        return encoded

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        text: str = self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def pairs(self, instances: Sequence[Any]) -> list[tuple[list[int], list[int]]]:
        """Token ids of the context and the target of each request."""
        self._pairs = []
        self.loglikelihood(instances, disable_tqdm=True)
        return self._pairs

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        del kwargs
        self._pairs = [(context, target) for _, context, target in requests]
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def generate_until(self, requests: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@contextmanager
def _offline() -> Iterator[None]:
    """Within, data of the hub is only taken from the cache."""
    with (
        replaced(huggingface_hub.constants, "HF_HUB_OFFLINE", True),
        replaced(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        yield


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Within, the libraries do not log what they log again when the tasks are evaluated."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
