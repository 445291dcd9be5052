"""The recipe of the demo model: corpus stream -> packed samples -> a small Llama trained from scratch.

A `Recipe` goes in. Out come a model folder as transformers writes it (bfloat16 safetensors, configuration, tokenizer)
and the training log. Training is in float32 on one thread, so that the same libraries give the same losses on one
machine.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from drop_ray.demo.corpus import documents
from drop_ray.demo.tokenizer import MAX_LENGTH, VOCABULARY_SIZE, train_tokenizer

LOG_FILE = "training_log.json"
FIRST_STEPS_LOGGED = 20
HIDDEN_SIZE = 128
LAYERS = 12
TOKENIZER_DOCUMENTS = 10_000
DOCUMENTS_PER_ENCODING = 64


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    steps: int = 2400
    """Optimizer steps, which are also the length of the learning-rate schedule."""
    batch_size: int = 4
    """Sequences in each step."""
    seq_len: int = 256
    """Tokens in each sequence."""
    learning_rate: float = 2e-3
    """Highest learning rate, after the warm-up."""
    final_learning_rate: float = 1e-4
    """Learning rate of the last step."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.99)
    """The betas of AdamW."""
    weight_decay: float = 0.05
    """Weight decay of matrices; vectors have none."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Seed of the weights and of the document stream."""

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a half cosine down to `final_learning_rate`. `step` counts from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        fall = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + fall * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class TrainingState:
    """What one step leaves behind."""

    step: int
    """Optimizer steps done."""
    loss: float
    """Loss of the last step, in nats per token."""
    model: LlamaForCausalLM
    """The model as it is now."""


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer trained on the first documents of the training stream."""
    return train_tokenizer(itertools.islice(documents(seed, "train"), TOKENIZER_DOCUMENTS))


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A freshly initialized Llama in float32: 12 layers of width 128, grouped-query attention, tied embeddings.

    Weights start with a standard deviation of 1 / sqrt(width), and those that write to the residual stream are smaller
    by sqrt(2 * layers), as in GPT-2. The default of 0.02 suits wide models. With it, this narrow one hardly learns to
    look back in an hour.
    """
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=384,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=HIDDEN_SIZE**-0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_((2 * LAYERS) ** -0.5)
            layer.mlp.down_proj.weight.mul_((2 * LAYERS) ** -0.5)
    return model


def packed_batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Token ids, int64 [batch_size, seq_len]: documents, each with its end token, joined and cut without gaps."""
    size = recipe.batch_size * recipe.seq_len
    stream = documents(recipe.seed, "train")
    buffer: list[int] = []
    while True:
        while len(buffer) < size:
            for ids in tokenizer(list(itertools.islice(stream, DOCUMENTS_PER_ENCODING)))["input_ids"]:
                buffer += [*ids, tokenizer.eos_token_id]
        yield torch.tensor(buffer[:size]).view(recipe.batch_size, recipe.seq_len)
        del buffer[:size]


def training_steps(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[TrainingState]:
    """Train with AdamW and yield after each step. Stopping early leaves the schedule of `recipe.steps` unchanged."""
    torch.set_num_threads(1)
    model = build_model(tokenizer, recipe.seed)
    model.train()
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        betas=recipe.betas,
    )
    for step, batch in enumerate(itertools.islice(packed_batches(tokenizer, recipe), recipe.steps)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield TrainingState(step + 1, loss.item(), model)


def train(
    recipe: Recipe,
    folder: Path,
    *,
    log_every: int,
    checkpoint_folder: Path | None = None,
    checkpoint_every: int = 200,
    report: Callable[[str], None] = print,
) -> None:
    """Train by `recipe` and write the model, its tokenizer and the log into `folder`.

    The log has the loss of each of the first `FIRST_STEPS_LOGGED` steps, then the mean loss of every `log_every` steps.
    With a `checkpoint_folder`, the model so far is written there every `checkpoint_every` steps.
    """
    tokenizer = build_tokenizer(recipe.seed)
    first_losses: list[float] = []
    mean_losses: list[dict[str, float]] = []
    recent: list[float] = []
    started = time.monotonic()
    for state in training_steps(recipe, tokenizer):
        recent.append(state.loss)
        if state.step <= FIRST_STEPS_LOGGED:
            first_losses.append(state.loss)
        if state.step % log_every == 0 or state.step == recipe.steps:
            mean_losses.append({"step": state.step, "loss": sum(recent) / len(recent)})
            recent.clear()
            seconds = time.monotonic() - started
            report(f"step {state.step}/{recipe.steps} loss {mean_losses[-1]['loss']:.4f} seconds {seconds:.0f}")
        if checkpoint_folder is not None and state.step % checkpoint_every == 0:
            save_model(state.model, tokenizer, checkpoint_folder)
    save_model(state.model, tokenizer, folder)
    write_log(folder / LOG_FILE, recipe, first_losses, mean_losses)


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in bfloat16 and its tokenizer. A reader of the folder never sees a half-written file."""
    attempt = folder.with_name(folder.name + ".partial")
    folder.mkdir(parents=True, exist_ok=True)
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(attempt)
    tokenizer.save_pretrained(attempt)
    for file in sorted(attempt.iterdir()):
        file.replace(folder / file.name)
    attempt.rmdir()


def write_log(path: Path, recipe: Recipe, first_losses: list[float], mean_losses: list[dict[str, float]]) -> None:
    """Writes the log as JSON: the recipe, the exact first losses, and the course of the loss."""
    log: dict[str, Any] = {
        "recipe": asdict(recipe),
        "torch": torch.__version__,
        "first_losses": first_losses,
        "mean_losses": mean_losses,
    }
    path.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
