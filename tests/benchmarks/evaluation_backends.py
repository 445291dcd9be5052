"""What the evaluation saves by computing once what requests begin with, in transformers and in vLLM.

    python tests/benchmarks/evaluation_backends.py [--repeats 3] [--engine transformers]

The demo model in float32 on one thread. First 40 documents with 4 choices each and 600 shared tokens: seconds with
shared prefixes and without, in turn. Then a task of 4 choices on the demo's data, whose few-shot examples are the first
of the task or drawn for each document: computed over asked tokens.
Targets: 4 times as fast with shared prefixes; at most 0.5 of the tokens in vLLM with 5 examples, 0.3 if they are the
first; 0.4 in transformers with 10.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import torch
from judged_tasks import write_tasks

from drop_ray.demo import MODEL_FOLDER
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.harness import EngineEvaluator, Evaluator
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel
from drop_ray.evaluation.tokens.token_model import Continuation
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.engine_process import EngineProcess
from drop_ray.serving.engine_tokens import EngineTokens

LENGTH, KV_BYTES, DOCUMENTS, SHARED = 1024, 1 << 28, 40, 600


def requests():
    draw = random.Random(0)

    def tokens(count):
        return tuple(draw.randrange(5, 1000) for _ in range(count))

    shared = tokens(SHARED)
    contexts = [shared + tokens(30) for _ in range(DOCUMENTS)]
    return [Continuation(context, tokens(3)) for context in contexts for _ in range(4)]


def seconds(model, asked):
    start = time.perf_counter()
    found = [answer.total for answer in model.likelihoods(asked)]
    return time.perf_counter() - start, found


def compare(name, shared, whole, repeats):
    """Print how many times as fast it is with shared prefixes; other documents each time, lest the cache has them."""
    ratios, differences = [], []
    for number in range(repeats):
        asked = [Continuation((5 + number, *context), target) for context, target in requests()]
        (fast, found), (slow, expected) = seconds(shared, asked), seconds(whole, asked)
        ratios.append(slow / fast)
        differences.append(max(abs(a - b) for a, b in zip(found, expected, strict=True)))
    print(
        f"{name}: {statistics.median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f}), "
        f"largest difference {max(differences):.1g} nats"
    )


def share_of_tokens(name, tokens, evaluator):
    for task, shots in (("letters", 5), ("letters", 10), ("drawn", 5), ("drawn", 10)):
        asked, computed = tokens.counts.asked, tokens.counts.computed
        evaluator.evaluate(TaskRequest(task, shots))
        ratio = (tokens.counts.computed - computed) / (tokens.counts.asked - asked)
        print(f"{name}: {task}, {shots} examples: {ratio:.3f} of the asked tokens are computed")


def engine(prefix_caching):
    settings = EngineSettings(
        *("vllm", str(MODEL_FOLDER), DropLists(), DropLists(), "float32", "cpu", LENGTH, 256, KV_BYTES),
        threads=1,
        enforce_eager=True,
        evaluates=True,
        prefix_caching=prefix_caching,
    )
    return EngineProcess(settings, "the benchmark")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=["vllm", "transformers"], nargs="*", default=["transformers", "vllm"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(MODEL_FOLDER)
    model = load_model(MODEL_FOLDER, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        tasks = write_tasks(Path(folder) / "tasks", DOCUMENTS)
        # The same task, with examples that are drawn for each document.
        yaml = (tasks / "letters.yaml").read_text()
        drawn = yaml.replace("fewshot_config: {sampler: first_n}\n", "").replace("task: letters", "task: drawn")
        (tasks / "drawn.yaml").write_text(drawn)
        if "transformers" in options.engine:
            shared, whole = (HfTokenModel(model, batch_size=8, max_length=LENGTH, shares=on) for on in (True, False))
            compare("transformers", shared, whole, options.repeats)
            evaluator = Evaluator(
                model, tokenizer, include_path=str(tasks), batch_size=8, seed=1, max_length=LENGTH, tokens=shared
            )
            share_of_tokens("transformers", shared, evaluator)
        if "vllm" in options.engine:
            engines = [engine(on) for on in (True, False)]
            shared, whole = (EngineTokens(each.wait(), LENGTH) for each in engines)
            compare("vllm", shared, whole, options.repeats)
            evaluator = EngineEvaluator(shared, model.config, tokenizer, include_path=str(tasks), seed=1)
            share_of_tokens("vllm", shared, evaluator)
            for each in engines:
                each.close()


if __name__ == "__main__":
    main()
