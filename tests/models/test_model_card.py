"""The model card of an export: what the hub reads of it, and that the base's scores are not taken for its own."""

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard import metadata_load
from tiny_models import write_checkpoint

from drop_ray.errors import UserError
from drop_ray.models.card_text import FOLDER, NO_RESULTS
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.export_formats import EXPORT_FORMATS
from drop_ray.models.families import DropLists
from drop_ray.models.model_card import at_place, based_on, describes, with_results

COMMIT = "5e" * 20
BASE_CARD = """---
license: other
license_name: tiny-license
license_link: LICENSE
language: [en, de]
pipeline_tag: text-generation
tags: [base-tag]
model-index:
- name: Tiny
  results:
  - task: {type: text-generation}
    dataset: {name: MMLU, type: mmlu}
    metrics: [{type: acc, value: 0.99}]
---
# Tiny scores 99 % on MMLU
"""
BLOCK = DropLists((1, 2), (2,))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base as the hub's cache has it: models--org--name/snapshots/commit."""
    folder = tmp_path_factory.mktemp("cache") / "models--tiny-org--Tiny-8M" / "snapshots" / COMMIT
    write_checkpoint(folder, num_layers=4)
    (folder / "README.md").write_text(BASE_CARD)
    return folder


def card_of(base, output, drops=BLOCK, **settings):
    export_checkpoint(open_checkpoint(base), drops, output, **settings)
    return (output / "README.md").read_text()


def test_the_hub_reads_base_licence_and_plan_and_no_score_of_the_base(base, tmp_path):
    card = card_of(base, tmp_path / "out", provenance={"strategy": "joint"})
    data = ModelCard(card).data
    assert (data.base_model, data.base_model_relation) == ("tiny-org/Tiny-8M", "finetune")
    assert (data.license, data.license_name, data.license_link) == ("other", "tiny-license", "LICENSE")
    assert (data.language, data.library_name, data.pipeline_tag) == (["en", "de"], "transformers", "text-generation")
    assert {"drop-ray", "pruning", "layer-dropping", "strategy-joint"} <= set(data.tags)
    assert "base-tag" not in data.tags
    assert data.eval_results is None
    assert "99" not in card
    assert NO_RESULTS in card
    assert "# Tiny-8M without 1 block and 1 attention layer\n" in card
    assert "- layers without attention: 1-2\n- layers without MLP: 2\n" in card
    assert (tmp_path / "out" / "BASE_README.md").read_text() == BASE_CARD
    assert metadata_load(tmp_path / "out" / "README.md") == data.to_dict()


def test_of_a_folder_that_the_hub_does_not_know_no_base_is_claimed(llama_folder, tmp_path):
    card = card_of(llama_folder, tmp_path / "out", DropLists((1,)))
    data = ModelCard(card).data
    assert data.base_model is None
    assert "base_model_relation" not in data.to_dict()
    assert "# A model without 1 attention layer\n" in card
    assert "The base came without a card" in card
    assert not (tmp_path / "out" / "BASE_README.md").exists()
    named = based_on(card, "org/base")
    assert ModelCard(named).data.base_model == "org/base"
    assert "# base without 1 attention layer\n" in named
    assert "[org/base](https://huggingface.co/org/base) is the base" in named
    assert based_on(named, "org/base") == named
    with pytest.raises(UserError, match="made of org/base"):
        based_on(named, "org/another")
    result = EvalResult("text-generation", "set", "set", "acc", 0.5)
    assert ModelCard(based_on(with_results(card, [result], ""), "org/base")).data.model_name.startswith("base without")


def test_a_plain_checkpoint_needs_nothing_of_drop_ray(base, tmp_path):
    card = card_of(base, tmp_path / "out", DropLists((2,), (2,)), format="plain")
    assert "# Tiny-8M without 1 block\n" in card
    assert "import drop_ray" not in card
    assert f'AutoModelForCausalLM.from_pretrained("{FOLDER}")' in card
    assert "trust_remote_code" not in card


@pytest.mark.parametrize("format", [one for one in EXPORT_FORMATS if one != "plain"])
def test_every_format_says_how_it_is_loaded(base, tmp_path, format):
    card = card_of(base, tmp_path / "out", DropLists((1,)), format=format)
    assert f"export format: `{format}`" in card
    assert ("trust_remote_code=True" in card) == (format != "nemotron-nas")
    assert ("silently loads the base" in card) == (format in ("llm-drop", "config-only"))
    assert FOLDER not in at_place(card, "me/mine")
    assert 'drop_ray.load("me/mine")' not in at_place(card, "me/mine")
    assert "vllm serve me/mine" in at_place(card, "me/mine")


def test_a_dropped_model_that_is_dropped_from_again_names_all_that_it_lacks(base, tmp_path):
    card_of(base, tmp_path / "first", DropLists((1,)))
    card = card_of(tmp_path / "first", tmp_path / "second", DropLists((3,)))
    assert "layers without attention: 1,3" in card
    assert ModelCard(card).data.license_name == "tiny-license"
    assert "Tiny-8M without 1 attention" in (tmp_path / "second" / "BASE_README.md").read_text()


def test_the_base_in_another_form_keeps_its_own_card(base, tmp_path):
    assert card_of(base, tmp_path / "out", DropLists(), format="plain") == BASE_CARD
    assert not (tmp_path / "out" / "BASE_README.md").exists()


def test_a_refit_is_in_text_and_tags(base, tmp_path):
    card = card_of(base, tmp_path / "out", card="projections solved anew")
    assert "- refitted: projections solved anew" in card
    assert "refitted" in ModelCard(card).data.tags
    assert describes(card, BLOCK, True)
    assert not describes(card, BLOCK, False)
    assert not describes(card, DropLists((1,)), True)


@pytest.mark.parametrize(
    "broken", ["---\nlicense: [\n---\ntext", "---\n- a\n---\n", "\xff\xfe", "---\nmodel-index: 3\n---\n"]
)
def test_a_base_card_that_cannot_be_read_is_kept_and_gives_nothing(base, tmp_path, broken):
    (tmp_path / "base").mkdir()
    for path in base.iterdir():
        (tmp_path / "base" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "base" / "README.md").write_bytes(broken.encode("latin-1"))
    assert ModelCard(card_of(tmp_path / "base", tmp_path / "out")).data.license is None
    assert (tmp_path / "out" / "BASE_README.md").read_bytes() == broken.encode("latin-1")


def test_results_take_the_place_of_none_and_of_older_ones(base, tmp_path):
    card = card_of(base, tmp_path / "out")
    result = EvalResult("text-generation", "org/set", "set", "acc", 0.5, metric_args={"stderr": 0.01})
    first = with_results(card, [result], "first text")
    second = with_results(first, [EvalResult("text-generation", "org/set", "set", "acc", 0.75)], "second text")
    found = ModelCard(second)
    assert (found.data.model_name, [one.metric_value for one in found.data.eval_results]) == (
        "Tiny-8M without 1 block and 1 attention layer",
        [0.75],
    )
    assert "second text" in second
    assert "first text" not in second
    assert NO_RESULTS not in second
    assert ModelCard(first).data.eval_results == [result]
    # Beside the results nothing of the card changes.
    assert (
        second.partition("\n## Results")[0].partition("\n# ")[2]
        == card.partition("\n## Results")[0].partition("\n# ")[2]
    )
    index = yaml.safe_load(second.split("---")[1])["model-index"]
    assert index[0]["results"][0]["dataset"] == {"name": "set", "type": "org/set"}


def test_results_are_not_written_into_a_card_of_somebody_else():
    with pytest.raises(UserError, match="not a card of drop_ray"):
        with_results(BASE_CARD, [], "text")
