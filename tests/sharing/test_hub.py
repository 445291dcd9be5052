"""`drop-ray push` against a stand-in for the hub: what arrives, what is refused, and going on after a break."""

import os
import subprocess
import sys

import huggingface_hub.constants
import pytest
from huggingface_hub import ModelCard

from drop_ray.cli import main
from drop_ray.errors import HubError, UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.sharing.hub import Target, push

REPO = "me/mine"


@pytest.fixture(scope="module")
def exported(llama_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export_checkpoint(open_checkpoint(llama_folder), DropLists((1,)), folder)
    return folder


def weights_of(folder):
    return [path.name for path in folder.glob("*.safetensors")]


def push_to(folder, **settings):
    return push(folder, Target(REPO, **settings), lambda text: None)


def test_the_command_uploads_every_file_and_a_card_that_names_the_repository(exported, hub):
    arguments = ["push", str(exported), "--to", REPO, "--private", "--base-model", "a/b"]
    command = [sys.executable, "-m", "drop_ray", *arguments]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = hub.repos[REPO]["main"]
    assert {path.name for path in exported.iterdir()} == files.keys() - {".gitattributes"}
    assert all(files[name] == (exported / name).read_bytes() for name in weights_of(exported))
    assert f'from_pretrained("{REPO}")'.encode() in files["README.md"]
    assert ModelCard(files["README.md"].decode()).data.base_model == "a/b"
    assert (exported / "README.md").read_bytes() != files["README.md"]
    assert hub.private[REPO] == "private"
    assert f"{len(files) - 1} files" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{REPO}/commit/{'1' * 40}"


def test_the_hub_is_asked_of_the_card_before_anything_is_made(exported, hub, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("---\n", "---\nlicense: other\n", 1))
    with pytest.raises(UserError, match="refuses the metadata of README.md: .*license_name"):
        push_to(folder)
    assert hub.repos == {}
    assert hub.asked == ["POST /api/validate-yaml"]


def test_a_repository_with_content_is_left_alone_unless_it_is_to_be_replaced(exported, hub):
    hub.repos[REPO] = {"main": {".gitattributes": b"x", "config.json": b"theirs", "pytorch_model.bin": b"theirs"}}
    with pytest.raises(UserError, match=r"config.json, pytorch_model.bin on its branch main; .*--replace"):
        push_to(exported)
    assert hub.repos[REPO]["main"]["config.json"] == b"theirs"
    push_to(exported, replace=True)
    assert "pytorch_model.bin" not in hub.repos[REPO]["main"]
    assert hub.repos[REPO]["main"]["config.json"] == (exported / "config.json").read_bytes()


def test_a_branch_is_made(exported, hub):
    push_to(exported, revision="v2")
    assert hub.repos[REPO]["main"].keys() == {".gitattributes"}
    assert {*weights_of(exported)} <= hub.repos[REPO]["v2"].keys()


def test_after_a_break_the_large_files_that_came_through_are_not_sent_again(exported, hub):
    hub.fault = lambda method, path: (400, {"error": "broken"}, {}) if "/commit/" in path else None
    with pytest.raises(HubError, match="goes on where it broke off"):
        push_to(exported)
    assert hub.repos[REPO]["main"].keys() == {".gitattributes"}
    hub.fault, before = None, len(hub.stored)
    hub.asked.clear()
    push_to(exported)
    assert before == len(hub.stored) == len(weights_of(exported))
    assert not [one for one in hub.asked if one.startswith("PUT")]
    assert {*weights_of(exported)} <= hub.repos[REPO]["main"].keys()


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {}, "the token is not valid: set HF_TOKEN"),
        (403, {}, "may not write there"),
        (403, {"X-Error-Code": "GatedRepo"}, "is gated"),
        (404, {}, "no such organisation"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_remedy(exported, hub, status, headers, message):
    hub.repos[REPO] = {"main": {}}
    hub.fault = lambda method, path: (status, {"error": "no"}, headers) if path.startswith("/api/models") else None
    with pytest.raises(HubError, match=message):
        push_to(exported)


def test_a_hub_that_is_not_there_is_said(exported, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached"):
        push_to(exported)


def test_without_a_token_nothing_is_asked(exported, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="HF_TOKEN"):
        push_to(exported)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["mine", "me/", "a/b/c", "me/-x", "me/x y"])
def test_a_name_that_the_hub_cannot_have_is_refused_here(exported, hub, name):
    with pytest.raises(UserError, match="--to"):
        push(exported, Target(name), print)
    assert hub.asked == []


def test_the_base_s_own_folder_is_no_export(llama_folder, hub, capsys):
    assert main(["push", str(llama_folder), "--to", REPO]) == 2
    assert "is no model card of drop_ray's" in capsys.readouterr().err
    assert hub.repos == {}


def test_a_dry_run_shows_files_and_card_and_asks_nobody(exported, hub, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert main(["push", str(exported), "--to", REPO, "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in weights_of(exported))
    assert "library_name: transformers" in output
    assert hub.asked == []
