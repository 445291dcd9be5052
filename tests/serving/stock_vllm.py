"""Log-probabilities that vLLM gives to prompts, in a process that cannot import drop_ray.

Started by test_stock_vllm.py with a JSON object: the folder, the prompts, the file for the answer.
"""

import json
import sys
from pathlib import Path

sys.modules["drop_ray"] = None  # whoever imports it fails

from vllm import LLM, SamplingParams  # noqa: E402

ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 128,
    "kv_cache_memory_bytes": 2**26,
    "distributed_executor_backend": "uni",
    "trust_remote_code": True,
}

if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    llm = LLM(model=request["folder"], **ENGINE)
    prompts = [{"prompt_token_ids": prompt} for prompt in request["prompts"]]
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0), use_tqdm=False)
    found = [
        [entry[token].logprob for token, entry in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)]
        for prompt, output in zip(request["prompts"], outputs, strict=True)
    ]
    Path(request["output"]).write_text(json.dumps(found))
