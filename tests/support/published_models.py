"""Jobs of the configs under jobs/configs without their models: sizes are those of the published config.json."""

import json
from pathlib import Path

import tiny_models
import torch
from transformers import LlamaConfig

from drop_ray.config import load_config
from drop_ray.evaluation.result import TaskRequest
from drop_ray.evaluation.tasks.published_sizes import PUBLISHED
from drop_ray.job.job import Job
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton
from drop_ray.models.families import DropLists
from drop_ray.planning.requests import plan_requests
from drop_ray.store import open_store
from drop_ray.store.hash_memory import HashMemory

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
# config.json as published on the hub.
LLAMA_3_70B = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
LLAMA_3_8B = LLAMA_3_70B | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LLAMA_31_405B = LLAMA_3_70B | {
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "max_position_embeddings": 131072,
}
FIELDS = {"llama3_8b": LLAMA_3_8B, "llama3_70b": LLAMA_3_70B, "llama31_405b": LLAMA_31_405B}
# The tasks of the paper, in the order in which the published table has them.
SHOTS = {
    **dict.fromkeys(["boolq", "rte", "openbookqa", "piqa"], 0),
    **dict.fromkeys(["mmlu", "winogrande", "gsm8k"], 5),
    "hellaswag": 10,
    "arc_challenge": 25,
}


def published_size(fields):
    return measure(build_skeleton(LlamaConfig(**fields), DropLists(), torch.bfloat16))


def published_job(folder, name, size, execution=None, **evaluation):
    """A job of the config as it is, with tokens in place of the hub's text, and without the model's weights.

    execution, evaluation: fields to change; all plans get the tasks, and no gates, unless they say otherwise.
    """
    fields = {**FIELDS[name], "model_type": "llama"}
    tokens = [[index % 100] * 2048 for index in range(256)]
    (folder / "tokens.json").write_text(json.dumps(tokens))
    model = folder / "model"
    model.mkdir(exist_ok=True)
    tiny_models.make_tokenizer().save_pretrained(model)
    (model / "config.json").write_text(json.dumps(fields))
    config = load_config(CONFIGS / f"{name}.yaml")
    calibration = {"token_ids": str(folder / "tokens.json"), "num_samples": 256, "seq_len": 2048}
    config = config.model_copy(
        update={
            "calibration": type(config.calibration)(**calibration),
            "evaluation": config.evaluation.model_copy(
                update={"screen": None, "gates": None, "divergence": None, **evaluation}
            ),
            "execution": config.execution.model_copy(update=execution or {}),
        }
    )
    checkpoint = Checkpoint("llama", model, fields, (), HashMemory(folder))
    checkpoint.__dict__["identity"] = "0" * 64
    job = Job(
        config=config,
        store=open_store(str(folder / "store"), {}),
        checkpoint=checkpoint,
        earlier={},
        size=size,
        base_drops=DropLists(),
        requests=tuple(plan_requests(config.plans, size.layers, DropLists(), "cosine")),
        given_plans=(),
        task_requests=tuple(TaskRequest(task.name, task.num_fewshot) for task in config.evaluation.tasks),
        tasks={task.name: {"name": task.name} for task in config.evaluation.tasks},
    )
    job.__dict__["volumes"] = {name: PUBLISHED[name].volume(shots, None, 16) for name, shots in SHOTS.items()}
    return job
