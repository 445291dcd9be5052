"""Tasks with a target through lm-eval itself, with a model whose answers are written down."""

import hashlib
import json
import math
import shutil
import statistics
from dataclasses import asdict
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.confidence import CONFIDENCE
from drop_ray.evaluation.harness import Harness
from drop_ray.evaluation.targets.base_answers import BaseAnswers
from drop_ray.evaluation.targets.remembering import Remembering
from drop_ray.evaluation.targets.target import Target

SIZES = {"large": 500, "small": 60}
TARGET = Target(within=0.08, confidence=0.9)
CHOICE_TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
GROUPS = """
group: {name}
task: [large, small]
aggregate_metric_list: [{{metric: acc, weight_by_size: {weighted}}}]
"""
TEXTS = """
task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: small.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}]
"""


def drawn(*what):
    """A number in [0, 1) that belongs to these words."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:6], "big") / 2**48


class Scripted(LM):
    """Prefers a choice by chance; differs from the base on a share of the questions. It counts what it is asked."""

    def __init__(self, changed=0.0, infinite=None):
        super().__init__()
        self.faults, self.asked, self._changed, self._infinite = {}, [], changed, infinite

    def loglikelihood(self, requests, **_):
        self.asked += requests
        answers = []
        for request in requests:
            context, choice = request.args
            seed = "variant" if drawn(context, "changed") < self._changed else "base"
            answers.append((-1 - 3 * drawn(context, choice, seed), False))
            if self._infinite and self._infinite in context:
                self.faults[request.task_name] = "not finite"
        return answers

    def loglikelihood_rolling(self, requests, **_):
        self.asked += requests
        return [-50.0 for _ in requests]

    def generate_until(self, requests, **_):
        raise AssertionError("nothing is generated")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for name, size in SIZES.items():
        rows = [{"question": f"{name} {number}?", "answer": int(drawn(name, number) < 0.4)} for number in range(size)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (folder / f"{name}.yaml").write_text(CHOICE_TASK.format(name=name))
    (folder / "both.yaml").write_text(GROUPS.format(name="both", weighted="true"))
    (folder / "unweighted.yaml").write_text(GROUPS.format(name="unweighted", weighted="false"))
    (folder / "texts.yaml").write_text(TEXTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield str(folder)


def harness(tasks, model, seed=7):
    return Harness(model, include_path=tasks, seed=seed)


def base_of(tasks, name):
    """The base's answers as the files of its artifact give them."""
    result = harness(tasks, Scripted()).evaluate(TaskRequest(name))
    metrics = json.dumps({"metrics": [asdict(metric) for metric in result.metrics]}).encode()
    return BaseAnswers.of(metrics, result.documents), result


def primary(result):
    (row,) = [row for row in result.metrics if row.primary]
    return row


def by_document(result, metric):
    return {
        (row["task"], row["doc_id"]): row["value"] for row in result.documents.to_pylist() if row["metric"] == metric
    }


def test_a_task_ends_when_the_difference_is_known_and_asks_for_no_document_twice(tasks):
    base, whole = base_of(tasks, "large")
    model = Scripted(changed=0.05)
    result = harness(tasks, model).evaluate(TaskRequest("large", target=TARGET), base)
    (outcome,) = result.outcomes
    assert 64 <= outcome.documents < 500
    assert outcome.population == 500
    assert (outcome.high - outcome.low) / 2 <= 0.08
    assert len(model.asked) == 2 * outcome.documents
    own, of_base = by_document(result, "acc_norm"), by_document(whole, "acc_norm")
    assert len(own) == outcome.documents
    difference = statistics.fmean(own[document] - of_base[document] for document in own)
    assert outcome.difference == pytest.approx(difference)
    assert primary(result).value == pytest.approx(primary(whole).value + difference)
    assert primary(result).num_documents == outcome.documents
    truth = harness(tasks, Scripted(changed=0.05)).evaluate(TaskRequest("large"))
    assert outcome.low <= primary(truth).value - primary(whole).value <= outcome.high
    # Documents are answered as in the evaluation of all.
    everything = by_document(truth, "acc_norm")
    assert all(everything[document] == value for document, value in own.items())


def test_the_same_documents_come_whatever_was_evaluated_before(tasks):
    base, _ = base_of(tasks, "large")
    fresh = harness(tasks, Scripted(changed=0.05)).evaluate(TaskRequest("large", target=TARGET), base, True)
    used = harness(tasks, Scripted(changed=0.05))
    used.evaluate(TaskRequest("small"))
    again = used.evaluate(TaskRequest("large", target=TARGET), base, True)
    assert again.documents.equals(fresh.documents)
    assert again.metrics == fresh.metrics
    assert again.outcomes == fresh.outcomes
    assert again.samples.equals(fresh.samples)


def test_another_seed_takes_other_documents(tasks):
    base, _ = base_of(tasks, "large")
    one, other = (
        by_document(harness(tasks, Scripted(), seed).evaluate(TaskRequest("large", target=TARGET), base), "acc")
        for seed in (7, 8)
    )
    assert one.keys() != other.keys()


def test_the_documents_of_a_group_are_in_one_order(tasks):
    base, whole = base_of(tasks, "both")
    result = harness(tasks, Scripted(changed=0.05)).evaluate(TaskRequest("both", target=TARGET), base)
    (outcome,) = result.outcomes
    assert outcome.task == "both"
    assert outcome.population == 560
    assert outcome.documents < 560
    own, of_base = by_document(result, "acc"), by_document(whole, "acc")
    parts = [sum(task == name for task, _ in own) for name in SIZES]
    assert sum(parts) == outcome.documents
    assert 0 < parts[1] < 60
    difference = statistics.fmean(own[document] - of_base[document] for document in own)
    assert primary(result).value == pytest.approx(primary(whole).value + difference)


def test_a_tag_has_a_target_for_each_of_its_tasks(tasks, tmp_path):
    for name in SIZES:
        text = CHOICE_TASK.format(name=name).replace("task:", "tag: pair\ntask:", 1)
        (tmp_path / f"{name}.yaml").write_text(text)
        shutil.copy(Path(tasks) / f"{name}.jsonl", tmp_path)
    base, _ = base_of(str(tmp_path), "pair")
    result = harness(str(tmp_path), Scripted()).evaluate(TaskRequest("pair", target=TARGET), base)
    documents = {outcome.task: (outcome.documents, outcome.population) for outcome in result.outcomes}
    assert documents.keys() == SIZES.keys()
    assert documents["small"] == (60, 60)
    assert documents["large"][0] < 500


@pytest.mark.parametrize(("name", "reason"), [("texts", "not bounded"), ("unweighted", "not the mean over all")])
def test_what_is_no_mean_of_values_in_0_to_1_is_evaluated_whole_and_says_so(tasks, caplog, name, reason):
    base, whole = base_of(tasks, name)
    with caplog.at_level("WARNING"):
        result = harness(tasks, Scripted()).evaluate(TaskRequest(name, target=TARGET), base)
    assert result.metrics == whole.metrics
    assert result.documents.equals(whole.documents)
    assert all(reason in outcome.no_interval and outcome.low is None for outcome in result.outcomes)
    assert f"evaluation.limit: {name} is evaluated whole" in caplog.text


def test_an_answer_that_is_not_finite_ends_the_task_without_a_number(tasks):
    base, _ = base_of(tasks, "large")
    model = Scripted(infinite="1?")
    result = harness(tasks, model).evaluate(TaskRequest("large", target=TARGET), base)
    assert all(math.isnan(row.value) and row.stderr is None for row in result.metrics)
    assert result.metrics
    (outcome,) = result.outcomes
    assert outcome.no_interval == "an answer is not finite"
    assert outcome.difference is None
    assert len(model.asked) == 2 * 64


def test_a_base_without_a_number_is_compared_with_nobody(tasks):
    result = harness(tasks, Scripted(infinite="1?")).evaluate(TaskRequest("large"))
    assert math.isnan(primary(result).value)
    metrics = json.dumps({"metrics": [asdict(metric) for metric in result.metrics]}).encode()
    base = BaseAnswers.of(metrics, result.documents)
    compared = harness(tasks, Scripted()).evaluate(TaskRequest("large", target=TARGET), base)
    (outcome,) = compared.outcomes
    assert "the base has no number" in outcome.no_interval
    assert primary(compared).num_documents == 500


def test_sampled_answers_are_given_back_in_their_order():
    class Sampling:
        tokenizer_name = "t"
        count = 0

        def generate_until(self, requests):
            self.count += len(requests)
            return [f"{request.args[0]}{self.count - len(requests) + place}" for place, request in enumerate(requests)]

    same, other = (Instance("generate_until", {}, (text, {"until": ["."]}), 0, ("t", 0, 2)) for text in "ab")
    model = Sampling()
    remembering = Remembering(model)
    assert remembering.tokenizer_name == "t"
    assert remembering.generate_until([same, same]) == ["a0", "a1"]
    assert remembering.generate_until([other]) == ["b2"]
    remembering.repeat()
    assert remembering.generate_until([other, same, same]) == ["b2", "a0", "a1"]
    assert model.count == 3


def test_confidences_and_samples_are_those_of_the_answers(tasks, tmp_path):
    result = harness(tasks, Scripted()).evaluate(TaskRequest("small"), keep_samples=True)
    pq.write_table(result.samples, tmp_path / "samples.parquet")
    samples = [json.loads(row["line"]) for row in pq.read_table(tmp_path / "samples.parquet").to_pylist()]
    assert [sample["doc_id"] for sample in samples] == list(range(60))
    confidences = by_document(result, CONFIDENCE)
    for sample in samples:
        question = sample["doc"]["question"]
        assert sample["arguments"]["gen_args_0"] == {"arg_0": question, "arg_1": " yes"}
        odds = [math.exp(-1 - 3 * drawn(question, f" {choice}", "base")) for choice in ("yes", "no")]
        assert confidences["small", sample["doc_id"]] == pytest.approx(max(odds) / sum(odds))
    assert harness(tasks, Scripted()).evaluate(TaskRequest("small")).samples is None
