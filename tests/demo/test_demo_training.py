"""The committed demo model: what the recipe says it is, and the recipe's first steps still give its first losses."""

import itertools
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from drop_ray.demo import MODEL_FOLDER
from drop_ray.demo.corpus import documents
from drop_ray.demo.data_files import TRAINING_DOCUMENTS, TRAINING_SEED
from drop_ray.demo.training import (
    FIRST_STEPS_LOGGED,
    LOG_FILE,
    Recipe,
    build_tokenizer,
    packed_batches,
    training_steps,
)

# Float32 sums in another order (other libraries, another processor) move the losses of the first steps by about 1e-5.
LOSS_TOLERANCE = 1e-3
SIZE_LIMIT = 8 * 2**20


@pytest.fixture(scope="module")
def log():
    return json.loads((MODEL_FOLDER / LOG_FILE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_log_is_of_the_committed_recipe(log):
    recipe = Recipe()
    assert log["recipe"] == json.loads(json.dumps(recipe.__dict__))
    assert recipe.seed == TRAINING_SEED
    assert log["mean_losses"][-1]["step"] == recipe.steps
    assert log["mean_losses"][-1]["loss"] < log["first_losses"][0] / 4


def test_training_reads_no_more_documents_than_the_questions_were_checked_against(tokenizer):
    recipe = Recipe()
    texts = list(itertools.islice(documents(recipe.seed, "train"), TRAINING_DOCUMENTS))
    tokens = sum(len(ids) + 1 for ids in tokenizer(texts)["input_ids"])
    assert tokens >= recipe.steps * recipe.batch_size * recipe.seq_len + recipe.batch_size * recipe.seq_len


def test_the_first_steps_of_the_recipe_give_the_logged_losses(log, one_thread):
    recipe = Recipe()
    states = training_steps(recipe, build_tokenizer(recipe.seed))
    losses = [state.loss for state in itertools.islice(states, FIRST_STEPS_LOGGED)]
    assert losses == pytest.approx(log["first_losses"], abs=LOSS_TOLERANCE)
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_committed_tokenizer_is_the_trained_one(tokenizer):
    assert build_tokenizer(Recipe().seed).get_vocab() == tokenizer.get_vocab()


def test_the_model_is_a_small_bfloat16_llama_of_twelve_layers():
    model = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER)
    config = model.config
    assert config.model_type == "llama"
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (12, 128, 384)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 32)
    assert config.max_position_embeddings == 1024
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) < SIZE_LIMIT


def test_any_text_survives_the_tokenizer_and_nothing_is_added(tokenizer):
    text = "Anna has 14 cups.\n\n  \u00e9\u4e16 \U0001f600\t<end>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer("")["input_ids"] == []


def test_numbers_are_read_digit_by_digit(tokenizer):
    assert len(tokenizer("1234")["input_ids"]) == 4
    assert len(tokenizer(" 1234")["input_ids"]) == 4


def test_the_chat_template_asks_as_the_corpus_does(tokenizer):
    messages = [
        {"role": "system", "content": "Anna lives in Oslo."},
        {"role": "user", "content": "Where does Anna live?"},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == "Anna lives in Oslo. Question: Where does Anna live? Answer:"


def test_batches_hold_whole_documents_with_their_ends(tokenizer):
    recipe = Recipe(batch_size=3, seq_len=100)
    first, second = itertools.islice(packed_batches(tokenizer, recipe), 2)
    assert first.shape == second.shape == (3, 100)
    text = tokenizer.decode(torch.cat([first.flatten(), second.flatten()]))
    parts = text.split("<|end|>")
    assert len(parts) > 3
    assert parts[:-1] == list(itertools.islice(documents(recipe.seed, "train"), len(parts) - 1))


def test_the_learning_rate_rises_then_falls_to_its_end():
    recipe = Recipe(steps=100, warmup_steps=10)
    rates = [recipe.learning_rate_at(step) for step in range(recipe.steps)]
    assert max(rates) == rates[9] == pytest.approx(recipe.learning_rate)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(recipe.final_learning_rate, rel=0.05)
