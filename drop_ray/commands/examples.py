"""The example configs that come with drop_ray, by name, and writing one of them to a file of one's own.

They are those of `jobs/configs/`: `drop_ray/examples` is a link to that folder, which a wheel has as a folder.
"""

import re
from pathlib import Path

from drop_ray.commands.new_config import write_new_config

FOLDER = Path(__file__).parents[1] / "examples"
SUFFIX = ".yaml"
IN_CHECKOUT = "jobs/configs/"
DEMO = "demo"
"""The example that runs on the model, text and tasks that come with drop_ray."""


def example_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def write_example(name: str, output: Path | None) -> Path:
    """Write an example to `output`, by default a file of its name. UserError if that exists."""
    output = output or Path(f"{name}{SUFFIX}")
    text = (FOLDER / f"{name}{SUFFIX}").read_text(encoding="utf-8")
    text = text.replace(f"{IN_CHECKOUT}{name}{SUFFIX}", str(output))
    if output.stem != name:  # the run is called after its file, as of any other config that `init` writes
        text = re.sub(rf"^name: {name}$", f"name: {output.stem}", text, flags=re.MULTILINE)
    write_new_config(output, text)
    return output
