"""Local tasks in the forms of the public ones, on the demo's own data, which the demo model has learned to answer."""

import json
from pathlib import Path

from drop_ray.demo import TASKS_FOLDER

COMMON = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl, train: {name}_train.jsonl}}}}
test_split: test
fewshot_split: train
output_type: {kind}
"""
FIRST = "fewshot_config: {sampler: first_n}\n"
CHOOSE = "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}"
# Names of the tasks, with the few-shot examples that they have of themselves.
TASKS = {"letters": 5, "endings": 0, "last_word": 0, "sums": 3, "reading": 0}


def write_tasks(folder: Path, documents: int = 30) -> Path:
    """The task files, with that many documents each; `TASKS` names them."""
    folder.mkdir(exist_ok=True)
    recall = _read("recall.jsonl")
    arithmetic = _read("arithmetic.jsonl")
    texts = [row["text"] for row in _read("perplexity.jsonl")]
    rows = [{"question": row["context"], "choices": row["choices"], "answer": row["answer"]} for row in recall]
    # As MMLU: choices are named by letters, and the examples are the first of the subject.
    _write(
        folder,
        "letters",
        rows,
        documents,
        COMMON.format(name="letters", kind="multiple_choice")
        + FIRST
        + 'doc_to_text: "{{question}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nD. {{choices[3]}}'
        '\\nAnswer:"\n'
        'doc_to_choice: ["A", "B", "C", "D"]\ndoc_to_target: answer\nnum_fewshot: 5\n' + CHOOSE + "]\n",
    )
    # As HellaSwag: endings of several tokens, of different lengths.
    endings = [
        {
            **row,
            "choices": [
                f"{choice}. {' '.join(texts[number % len(texts)].split()[: 12 + place])}"
                for place, choice in enumerate(row["choices"])
            ],
        }
        for number, row in enumerate(rows)
    ]
    _write(
        folder,
        "endings",
        endings,
        documents,
        COMMON.format(name="endings", kind="multiple_choice")
        + 'doc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: answer\nnum_fewshot: 0\n'
        + CHOOSE
        + ", {metric: acc_norm, aggregation: mean, higher_is_better: true}]\n",
    )
    # As LAMBADA: is the last word the most probable one, and how probable is it?
    words = [{"start": text.rsplit(" ", 1)[0], "word": text.rsplit(" ", 1)[1]} for text in (t[:400] for t in texts)]
    _write(
        folder,
        "last_word",
        words,
        documents,
        COMMON.format(name="last_word", kind="loglikelihood")
        + 'doc_to_text: "{{start}}"\ndoc_to_target: " {{word}}"\nnum_fewshot: 0\nmetric_list:\n'
        "  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}\n"
        "  - {metric: acc, aggregation: mean, higher_is_better: true}\n",
    )
    # As GSM8K: text is generated up to a stop.
    sums = [{"question": row["context"], "answer": row["choices"][row["answer"]].rstrip(".")} for row in arithmetic]
    _write(
        folder,
        "sums",
        sums,
        documents,
        COMMON.format(name="sums", kind="generate_until")
        + FIRST
        + 'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\nnum_fewshot: 3\n'
        'generation_kwargs: {until: [".", "\\n\\n"], max_gen_toks: 24, do_sample: false}\n'
        "metric_list:\n"
        "  - {metric: exact_match, aggregation: mean, higher_is_better: true, regexes_to_ignore: ['^ +']}\n",
    )
    # As WikiText: whole texts, some longer than the model's sequence.
    reading = [{"text": " ".join(texts[number : number + 1 + 30 * (number % 3)])} for number in range(documents)]
    _write(
        folder,
        "reading",
        reading,
        documents,
        COMMON.format(name="reading", kind="loglikelihood_rolling") + 'doc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]\n",
    )
    return folder


def _read(name: str) -> list[dict]:
    return [json.loads(line) for line in (TASKS_FOLDER / name).read_text().splitlines()]


def _write(folder: Path, name: str, rows: list[dict], documents: int, yaml: str) -> None:
    (folder / f"{name}.yaml").write_text(yaml)
    for split, part in (("", rows[:documents]), ("_train", rows[documents : documents + 20] or rows[:20])):
        (folder / f"{name}{split}.jsonl").write_text("\n".join(json.dumps(row) for row in part))
