"""A page in headless Chromium: what a script finds in it, at a width, after it did what a reader would do."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

CHROMIUM = shutil.which("chromium")
# A new profile each time, and no look at the network.
SWITCHES = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
SWITCHES += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
SWITCHES += ["--virtual-time-budget=5000"]
# The page in a frame: a window has a least width, which is more than a telephone's.
FRAME = '<!doctype html><iframe id="page" style="border:0;width:{width}px;height:900px" src="{url}"></iframe>'
ASK = """<script>addEventListener("load", () => setTimeout(async () => {{
  let found;
  try {{ found = await (async () => {{ {script} }})(); }} catch (error) {{ found = {{error: String(error)}}; }}
  parent.postMessage(JSON.stringify(found), "*");
}}, 100));</script>"""
LISTEN = """<pre id="found"></pre><script>addEventListener("message", (event) => {
  document.getElementById("found").textContent = event.data; });</script>"""


def in_browser(page: str, script: str, *, width: int = 1280, fragment: str = "", dark: bool = False) -> object:
    """What a script returns, as JSON. script: statements with a `return`, which may await; run in the loaded page."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(page.replace("</body>", ASK.format(script=script) + "</body>"))
        frame = FRAME.format(width=width, url=f"page.html{fragment}")
        (Path(folder) / "frame.html").write_text(LISTEN + frame)
        colours = ["--blink-settings=preferredColorScheme=0"] if dark else []
        profile = [f"--user-data-dir={folder}/profile", "--window-size=1400,1000"]
        url = f"file://{folder}/frame.html"
        command = [str(CHROMIUM), *SWITCHES, *colours, *profile, "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert text is not None, done.stderr[-2000:]
    assert text[1], done.stderr[-2000:]
    return json.loads(unescape(text[1]))
