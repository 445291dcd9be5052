"""The embedded default: a small trained language model, its lm-eval tasks, calibration and held-out text.

It lets every step of drop_ray run offline in minutes on a laptop, on a model whose layers have learned something. All
of it was made by this folder's code:

- `corpus.py` and what it imports generate English documents: facts about people with questions, lists of names and
  numbers, sentences with far agreement, small arithmetic, short stories. Held-out documents rest on combinations of
  words and numbers that training never has.
- `tokenizer.py` trains a byte-level BPE of 1024 tokens on them.
- `training.py` trains a 12-layer Llama of 2.5 million parameters on 2.5 million tokens, in 25 minutes on one core,
  without regard to what dropping layers does to it.
- `tasks/` asks what the training text does not contain. `demo_recall` asks what a passage told (chance 1/4),
  `demo_agreement` the right form of a verb or pronoun (chance 1/2), and `demo_arithmetic` sums and differences of known
  number pairs in new sentences (chance 1/4). `demo_perplexity` reads held-out documents.
- `calibration.jsonl` (training split, a seed of its own) and `heldout.jsonl` have one document per line.

The model answers 68 % of `demo_recall`, 98 % of `demo_agreement` and 58 % of `demo_arithmetic` (400 questions each,
standard errors 2.3, 0.7 and 2.5 points). It has not learned sums of number pairs that training never showed (29 %).

`jobs/train_demo_model.py` makes the model and the files again. The paths below are where the installed files are.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent

MODEL_FOLDER = _FOLDER / "model"
TASKS_FOLDER = _FOLDER / "tasks"
CALIBRATION_FILE = _FOLDER / "calibration.jsonl"
HELDOUT_FILE = _FOLDER / "heldout.jsonl"
