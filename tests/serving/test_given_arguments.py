"""The arguments of vLLM's server, read by its own parser."""

from pathlib import Path

import pytest
from installed import needs_vllm
from vllm_apart import answer_of

pytestmark = [pytest.mark.full, needs_vllm]
READ = {
    "--dtype=float32 --max-model-len 1k -tp 2 --enforce-eager --no-enable-prefix-caching": {
        "dtype": "float32",
        "max_model_len": 1000,
        "tensor_parallel_size": 2,
        "enforce_eager": True,
        "enable_prefix_caching": False,
    },
    # What vLLM turns into objects stays as it was given, with dots or as JSON.
    '--compilation-config {"mode":3} --attention-config.backend FLASH_ATTN': {
        "compilation_config": {"mode": 3},
        "attention_config": {"backend": "FLASH_ATTN"},
    },
    '--hf-overrides {"drop_attn_list":[1]} --speculative-config {"method":"draft_model","model":"/x"}': {
        "hf_overrides": {"drop_attn_list": [1]},
        "speculative_config": {"method": "draft_model", "model": "/x"},
    },
    "--host 0.0.0.0 --port 8001 --chat-template a.jinja --served-model-name a b": {
        "host": "0.0.0.0",
        "port": 8001,
        "chat_template": "a.jinja",
        "served_model_name": ["a", "b"],
    },
    "": {},
}
REFUSED = {
    "--api-key k": "--api-key is for vLLM's own HTTP server, in whose place Ray Serve's stands; leave it out",
    "--uds /run/s": "--uds is for vLLM's own HTTP server",
    "--headless": "--headless is for vLLM's own HTTP server",
    "--no-such 1": "vLLM's server: unrecognized arguments: --no-such",
    "--max-model-len many": "vLLM's server: argument --max-model-len: invalid human_readable_int_or_auto value: 'many'",
    '--compilation-config {"mod":3}': "vLLM's server: argument --compilation-config",
}


def test_what_was_given_is_read_and_nothing_else(tmp_path):
    request = {"lists": [line.split() for line in (*READ, *REFUSED)]}
    answers = answer_of(Path(__file__).with_name("parsed_arguments.py"), request, tmp_path / "answers.json")
    assert answers[: len(READ)] == [*READ.values()]
    for found, expected in zip(answers[len(READ) :], REFUSED.values(), strict=True):
        assert found.startswith(expected)
