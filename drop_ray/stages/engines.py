"""What engines of a variant are built from: a folder of its weights, and the tokens that they are checked on."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drop_ray.calibration import packing
from drop_ray.job.artifacts import CHECKPOINT, SAMPLES
from drop_ray.job.run_state import RunState
from drop_ray.job.worker import Worker
from drop_ray.models.dropped import read_config, special_ids
from drop_ray.models.export import export_checkpoint
from drop_ray.models.location import find_tokenizer
from drop_ray.planning.variants import Variant
from drop_ray.serving.checks import prompt_length
from drop_ray.serving.workloads import ordinary_tokens
from drop_ray.store import Commit
from drop_ray.store.tables import read_table

# Number of calibration samples whose beginnings engines are checked on.
GATE_SAMPLES = 2


def gate_text(run: RunState, max_length: int) -> list[list[int]]:
    """Calibration samples of equal length that engines for sequences of `max_length` tokens are checked on."""
    if max_length not in run.gate_texts:
        token_ids = packing.from_table(read_table(run.job.store, run.calibrated.committed, SAMPLES))
        length = prompt_length(max_length, token_ids.shape[1])
        run.gate_texts[max_length] = token_ids[:GATE_SAMPLES, :length].tolist()
    return run.gate_texts[max_length]


def prompt_tokens(worker: Worker) -> tuple[Sequence[int], int]:
    """The tokens that random prompts are drawn from, and the rows of the output layer.

    Prompts avoid added tokens that no text becomes, and rows of the embedding that no token has. Without a tokenizer
    they avoid what the configuration says begins, ends or fills a sequence.
    """
    checkpoint = worker.checkpoint()
    config, tokenizer = read_config(checkpoint), find_tokenizer(checkpoint.folder)
    if tokenizer is None:
        return ordinary_tokens(config.vocab_size, special_ids(config)), config.vocab_size
    special = {*tokenizer.all_special_ids}
    special |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return ordinary_tokens(min(config.vocab_size, len(tokenizer)), special), config.vocab_size


@contextmanager
def variant_folder(worker: Worker, variant: Variant, made: Commit | None) -> Iterator[Path | None]:
    """The folder of the variant's weights; None if they are the base's, without the sub-layers that it drops.

    made: its own checkpoint's commit, if it has one.
    """
    if made is not None:
        with worker.folder(made, CHECKPOINT) as folder:
            yield folder
    elif variant.edits:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / CHECKPOINT
            export_checkpoint(worker.source(variant), variant.drops, folder)
            yield folder
    else:
        yield None
