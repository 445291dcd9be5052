"""Makes everything in drop_ray/demo that is not code: the model with its tokenizer, the tasks' data, the text files.

python jobs/train_demo_model.py               the model, about half an hour on one core
python jobs/train_demo_model.py --data-only   the tasks' data, the calibration and the held-out text, seconds
"""

import argparse
from pathlib import Path

from drop_ray.demo import MODEL_FOLDER
from drop_ray.demo.data_files import write_data_files
from drop_ray.demo.training import Recipe, train


def main() -> None:
    defaults = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-only", action="store_true", help="write the generated text files, train nothing")
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER, help="folder for the model (%(default)s)")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="also the length of the schedule")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of the weights and the training documents")
    parser.add_argument("--log-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--checkpoints", type=Path, help="folder for the model so far, every 200 steps")
    arguments = parser.parse_args()
    if arguments.data_only:
        write_data_files(MODEL_FOLDER.parent)
        return
    recipe = Recipe(steps=arguments.steps, seed=arguments.seed)
    train(recipe, arguments.output, log_every=arguments.log_every, checkpoint_folder=arguments.checkpoints)


if __name__ == "__main__":
    main()
