"""lm-eval's model over an engine, with the prompts, tokens and stops of its hf model."""

import copy
from collections.abc import Sequence
from typing import Any

import jinja2
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from transformers import PreTrainedTokenizerBase

from drop_ray.errors import UserError
from drop_ray.evaluation.finite_answers import FiniteAnswers
from drop_ray.evaluation.tasks.generation_settings import sampling_of
from drop_ray.evaluation.token_answers import TokenAnswers
from drop_ray.evaluation.tokens.token_model import ENGINE_CAUSE, CompletingModel, Completion

# New tokens of a text for which a task sets no limit, as of lm-eval's hf model.
MAX_NEW_TOKENS = 256


class EngineModel(FiniteAnswers, TokenAnswers, TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """A model in an engine. `end_tokens` end a text beside the tokenizer's own end; `seed` draws sampled tokens."""

    def __init__(
        self,
        tokens: CompletingModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        vocabulary: int,
        end_tokens: Sequence[int],
        seed: int,
    ):
        super().__init__()
        self.tokens: CompletingModel = tokens
        self.tokenizer = copy.deepcopy(tokenizer)
        self.vocabulary, self.faults = vocabulary, {}
        self._end_tokens, self._seed = tuple(end_tokens), seed

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id  # type: ignore[no-any-return]

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without a context."""
        begin = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if begin is None else begin  # type: ignore[no-any-return]

    @property
    def max_length(self) -> int:
        return self.tokens.max_length

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")  # type: ignore[no-any-return]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        def applied(history: list[dict[str, str]]) -> str:
            return self.tokenizer.apply_chat_template(  # type: ignore[no-any-return]
                history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )

        try:
            return applied(chat_history)
        except jinja2.exceptions.TemplateError:  # as of templates without a system role
            return applied([message for message in chat_history if message["role"] != "system"])

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        del disable_tqdm
        prompts, ways, stops = [], [], []
        for request in requests:
            text, settings = request.args
            how, stop = self._way(request.task_name, settings)
            room = self.max_length - how.max_tokens
            if room < 1:
                raise UserError(
                    f"evaluation.max_length: {request.task_name} generates {how.max_tokens} tokens, and a sequence has "
                    f"{self.max_length} at most"
                )
            prompts.append(self._encoded(text)[-room:])
            ways.append(how)
            stops.append(stop)
        texts = []
        for request, stop, answer in zip(requests, stops, self.tokens.complete(prompts, ways), strict=True):
            if not answer.is_finite:
                self._keep(request, "text was generated from logits that are not finite")
            text = self.tokenizer.decode(answer.tokens, skip_special_tokens=True)
            texts.append(postprocess_generated_text(text, stop=stop, think_end_token=None))
        return texts

    def _way(self, task: str, settings: dict[str, Any]) -> tuple[Completion, list[str]]:
        """How a request is completed, and the strings that its answer ends before."""
        known = normalize_gen_kwargs(settings, MAX_NEW_TOKENS)
        end = None if self.eot_token_id is None else self.tokenizer.decode([self.eot_token_id])
        stop = handle_stop_sequences(list(known["until"]), eos=end)
        ends = {*self._end_tokens, *([] if self.eot_token_id is None else [self.eot_token_id])}
        return (
            Completion(
                max_tokens=known["max_gen_toks"],
                stop_tokens=tuple(sorted(ends)),
                stop=tuple(sorted(filter(None, stop))),
                sampling=sampling_of(task, settings, self._seed),
            ),
            stop,
        )

    def _encoded(self, text: str) -> list[int]:
        """A prompt that is to be continued, of which lm-eval compares the beginning with the BOS token alone."""
        if has_bos_prefix(text, self.tokenizer.bos_token):
            return self._checked(text, self.tokenizer.encode(text, add_special_tokens=False))
        return self._checked(text, self.tokenizer.encode(text))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            special = {"add_special_tokens": False}
        return self._checked(string, self.tokenizer.encode(string, **special))

    def _cause(self, request: Any) -> str:
        del request
        return ENGINE_CAUSE
