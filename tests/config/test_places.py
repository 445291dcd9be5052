"""What a config names on this machine is looked for before anything else is done."""

import subprocess
import sys

import pytest

from drop_ray.config import parse_config
from drop_ray.config.places import check_places
from drop_ray.errors import UserError

RUN = {"name": "run", "model": {"path": "demo:model"}, "calibration": {"source": "demo:calibration.jsonl"}}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"model": {"path": "no/such/model"}}, r"model.path: no/such/model \(/.*/no/such/model\) is neither a folder"),
        ({"calibration": {"token_ids": "a.json"}}, r"calibration.token_ids: a.json \(/.*/a.json\) is not a file"),
        (
            {"calibration": {"sources": [{"source": "demo:heldout.jsonl"}, {"source": "b.txt"}]}},
            r"calibration.sources\[1\].source: b.txt",
        ),
        ({"evaluation": {"perplexity": [{"source": "c.txt"}]}}, r"evaluation.perplexity \(perplexity\).source: c.txt"),
        ({"plans": [{"strategy": "attention", "drop": [1]}, {"file": "d.json"}]}, r"plans\[1\].file: d.json"),
        ({"evaluation": {"include_path": "tasks"}}, r"evaluation.include_path: tasks \(/.*\) is not a folder"),
    ],
)
def test_what_is_not_there_is_named_with_the_place_where_it_was_looked_for(section, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        check_places(parse_config({**RUN, **section}, "test"))


@pytest.mark.parametrize("path", ["s3://bucket/model", "gpt2", "org/name", "demo:model"])
def test_urls_and_names_of_the_hub_are_not_asked(path):
    check_places(parse_config({**RUN, "model": {"path": path}}, "test"))


def test_the_answer_comes_before_torch_is_imported(tmp_path):
    (tmp_path / "run.yaml").write_text("model: {path: no/such/model}\ncalibration: {source: demo:calibration.jsonl}\n")
    program = "import sys; from drop_ray.cli import main; code = main(['run', 'run.yaml']); "
    program += "sys.exit(9 if {'torch', 'ray', 'transformers'} & {*sys.modules} else code)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "is neither a folder" in done.stderr
