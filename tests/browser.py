"""A browser for the tests of pages: what its console says, and what a script finds in a page."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import escape, unescape
from itertools import product
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever is asked for cannot be had, and is told in the console
    "--enable-logging=stderr",
    "--virtual-time-budget=8000",
    "--dump-dom",
]
# Put into a copy of the page in a frame: runs the script when the page is there, writes what it returns below.
PROBE = """
<script>
addEventListener("load", async () => {
  let found;
  try {
    found = await (async () => {SCRIPT})();
  } catch (error) {
    found = {error: String(error.stack)};
  }
  const pre = parent.document.createElement("pre");
  pre.className = "found";
  pre.dataset.frame = NUMBER;
  pre.textContent = JSON.stringify(found);
  parent.document.body.append(pre);
});
</script>
"""
FOUND = r'<pre class="found" data-frame="(\d+)">(.*?)</pre>'


def browse(page: Path, folder: Path) -> tuple[str, list[str]]:
    """Return the page as the browser has it in the end, and what its console says."""
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "--window-size=1280,900", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probe_pages(pages: Sequence[str], script: str, folder: Path, *widths: int) -> list[dict[str, Any]]:
    """Return what `script`, the body of a function, returns in each of `pages`, in windows of 1280 pixels.

    With `widths`, what it returns in all pages in windows of the first, then of the second, and so on. In frames, for
    a window of Chromium cannot be so narrow; of all at once, for its start takes longest.
    """
    frames = []
    for number, (width, html) in enumerate(product(widths or (1280,), pages)):
        probe = PROBE.replace("NUMBER", str(number)).replace("SCRIPT", script)
        inside = escape(html.replace("</body>", f"{probe}</body>"))
        frames.append(f'<iframe width="{width}" height="800" srcdoc="{inside}"></iframe>')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "frames.html").write_text(f"<!DOCTYPE html><body>{''.join(frames)}", encoding="utf-8")
    page, console = browse(folder / "frames.html", folder / "profile")
    assert console == []
    found = {int(number): unescape(text) for number, text in re.findall(FOUND, page, re.S)}
    assert sorted(found) == list(range(len(frames))), page[:2000]
    results: list[dict[str, Any]] = [json.loads(found[number]) for number in sorted(found)]
    assert [result["error"] for result in results if "error" in result] == []
    return results
