"""Serves refitted checkpoints of the demo with vLLM, and lets them draft for the base, in a process of its own.

Started by test_refitted_models.py with a JSON object: folders by name, prompts, the file for the answers. An engine has
"model" and "dtype", and where it has a "draft", this one proposes TOKENS tokens at a time.
"""

import gc
import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams

TOKENS = 3
NEW_TOKENS = 32
ENGINE = {
    "enforce_eager": True,
    "max_model_len": 256,
    "max_num_seqs": 8,
    "kv_cache_memory_bytes": 2**26,
    "distributed_executor_backend": "uni",
    "disable_log_stats": False,
}
DRAFTED, ACCEPTED = "vllm:spec_decode_num_draft_tokens", "vllm:spec_decode_num_accepted_tokens"


def answers(engine, prompts):
    """Greedy tokens, log-probabilities of the prompts without a draft, and the share of drafted tokens accepted."""
    draft = engine.get("draft")
    speculation = {"method": "draft_model", "model": draft, "num_speculative_tokens": TOKENS} if draft else None
    llm = LLM(model=engine["model"], dtype=engine["dtype"], speculative_config=speculation, **ENGINE)
    scored = {} if draft else {"prompt_logprobs": 0}
    sampling = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, **scored)
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
    found = {"tokens": [list(output.outputs[0].token_ids) for output in outputs]}
    if draft:
        counts = {metric.name: metric.value for metric in llm.get_metrics() if metric.name in (DRAFTED, ACCEPTED)}
        found["accepted"] = counts[ACCEPTED] / counts[DRAFTED]
    else:
        found["logprobs"] = [
            [entry[token].logprob for token, entry in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)]
            for prompt, output in zip(prompts, outputs, strict=True)
        ]
    del llm
    gc.collect()
    return found


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    found = {name: answers(engine, request["prompts"]) for name, engine in request["engines"].items()}
    Path(request["output"]).write_text(json.dumps(found))
