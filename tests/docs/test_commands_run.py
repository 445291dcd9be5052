"""The commands and the Python of every page do what they are shown to do: in order, in a folder of the page's own.

What needs a GPU, a cluster or a server stands in commands_not_run.py.
"""

import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import ray
import tiny_models
import torch
from page_commands import PAGES, ROOT, reason_not_run, shown
from page_folder import OTHER, STORE, write_page_folder

import drop_ray
from drop_ray.cli import main

pytestmark = [pytest.mark.alone, pytest.mark.full]

RUN = {page: [one for one in shown(page) if not reason_not_run(one)] for page in PAGES}
# Files of the package that extending.md makes: tests/test_extensions.py compares, installs and runs them.
ELSEWHERE = {ROOT / "docs" / "extending.md"}
DONE = [page for page in PAGES if RUN[page] and page not in ELSEWHERE]
# Where pages have a model of the reader's.
ABSOLUTE = "/models/"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """With the finished runs."""
    folder = tmp_path_factory.mktemp("pages")
    store = folder / STORE
    store.mkdir()
    write_page_folder(folder / "page", store)
    tiny_models.write_checkpoint(folder / "models" / "Llama-3-8B", num_layers=4)
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "page")
        assert [main(["run", config]) for config in ("my.yaml", OTHER)] == [0, 0]
    yield store
    ray.shutdown()


def run_command(text: str) -> str:
    words, _, output = text.partition(" > ")
    printed = StringIO()
    with redirect_stdout(printed):
        code = main(shlex.split(words)[1:])
    assert code == 0, text
    if output:
        Path(output.strip()).write_text(printed.getvalue())
    return printed.getvalue()


@pytest.mark.parametrize("page", DONE, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_can_be_done(page, store, tmp_path, monkeypatch):
    folder = tmp_path / "page"
    write_page_folder(folder, store)
    monkeypatch.chdir(folder)
    if "--output dropped/" not in page.read_text():
        drop_ray.export("my.yaml", "attention-8", "dropped")
    names = {"token_ids": torch.tensor([[1, 2, 3, 4]])}
    here = f"{store.parent}{ABSOLUTE}"
    for one in RUN[page]:
        text = one.text.replace(ABSOLUTE, here)
        if one.language == "python":
            exec(compile(text, one.place, "exec"), names)
        else:
            printed = {line.strip() for line in run_command(text).splitlines()}
            assert [line for line in one.output if line not in printed] == [], one.place
