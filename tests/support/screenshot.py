"""The top of a page as a picture."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import CHROMIUM, FRAME, SWITCHES
from PIL import Image

LEAST_WIDTH = 600
"""Of a window; a narrower page is in a frame of its width, and the rest is cut off."""


def screenshot(page: Path, picture: Path, *, width: int, height: int, dark: bool = False) -> None:
    """A PNG in few colours, so that it is small."""
    with TemporaryDirectory() as folder:
        taken, frame = Path(folder) / "taken.png", Path(folder) / "frame.html"
        shown = FRAME.format(width=width, url=page.as_uri()).replace("height:900px", f"height:{height}px")
        frame.write_text(shown + "<style>body{margin:0}</style>")
        colours = ["--blink-settings=preferredColorScheme=0"] if dark else []
        window = f"--window-size={max(width, LEAST_WIDTH)},{height + 200}"
        places = [f"--user-data-dir={folder}/profile", f"--screenshot={taken}", frame.as_uri()]
        command = [str(CHROMIUM), *SWITCHES, *colours, window, *places]
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        image = Image.open(taken).convert("RGB").crop((0, 0, width, height))
        image.quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)
