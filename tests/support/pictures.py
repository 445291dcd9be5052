"""The pictures of the pages, made of a run of the demo: `make pictures`.

pictures.py [FOLDER]: where the demo is run; with the folder of an earlier call its run is used, and its report is
written anew. Needs Chromium.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import CHROMIUM
from terminal import last_screen, picture, record

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
DROP_RAY = [sys.executable, "-m", "drop_ray"]
RUN = ["run", "jobs/configs/demo.yaml"]
INSPECT = ["inspect", "model", "--plan", "drop-ray-store/runs/demo/plans/attention-4.json", "--batch-size", "32"]
COLUMNS = 110
# File, width and height of what is seen of the report, whether in dark colours.
REPORT = {
    "report.png": (1280, 900, False),
    "report-dark.png": (1280, 900, True),
    "report-narrow.png": (390, 844, False),
}
# File, command.
TERMINAL = {"run.svg": RUN, "inspect.svg": INSPECT}
FILES = {*REPORT, *TERMINAL}


def main(folder: Path) -> None:
    if CHROMIUM is None:
        raise SystemExit("pictures of the report need Chromium (Debian: apt-get install chromium)")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    PICTURES.mkdir(exist_ok=True)
    recording = folder / "run.txt"
    for name, place in (("jobs", ROOT / "jobs"), ("model", ROOT / "drop_ray" / "demo" / "model")):
        if not (folder / name).exists():
            (folder / name).symlink_to(place)
    if not recording.exists():
        recording.write_text(record([*DROP_RAY, *RUN], folder, COLUMNS))
    written = {"run.svg": recording.read_text(), "inspect.svg": record([*DROP_RAY, *INSPECT], folder, COLUMNS)}
    for name, text in written.items():
        lines = last_screen(text.replace(f"{folder}/", ""))
        (PICTURES / name).write_text(picture(lines, COLUMNS, " ".join(["drop-ray", *TERMINAL[name]])))
    record([*DROP_RAY, "report", "jobs/configs/demo.yaml"], folder, COLUMNS)
    from screenshot import screenshot  # Pillow: not in every environment of the tests

    page = folder / "drop-ray-store" / "runs" / "demo" / "report.html"
    for name, (width, height, dark) in REPORT.items():
        screenshot(page, PICTURES / name, width=width, height=height, dark=dark)
    for name in sorted(FILES):
        print(f"{(PICTURES / name).stat().st_size:8} {name}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with TemporaryDirectory() as new:
            main(Path(new).resolve())
