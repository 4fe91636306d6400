"""Make the README's pictures anew: what `resattn explain` draws of the page's own drawings, and the page itself.

    pip install -e '.[dev]' && python docs/pictures.py

Needs Chromium (/usr/bin/chromium), which Playwright drives.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
SAMPLES = Path(__file__).parents[1] / "src" / "resattn" / "serving" / "web" / "samples"
COMMAND = [sys.executable, "-m", "resattn_launcher"]
VIEWS: dict[str, tuple[str, dict[str, Any]]] = {
    "page-desktop": ("School bus", {"viewport": {"width": 1180, "height": 800}}),
    "page-phone-dark": (
        "Ladybird",
        {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "color_scheme": "dark"},
    ),
}


@contextmanager
def served() -> Iterator[str]:
    """The address of `resattn serve` on a free port."""
    process = subprocess.Popen([*COMMAND, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                return
    finally:
        process.terminate()
        process.wait(60)


def explanations() -> None:
    """The sheet of all drawings, and the figure of one."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*COMMAND, "explain", str(SAMPLES), "--out", folder], check=True)
        for made, kept in (("sheet", "explain-sheet"), ("school-bus-explanation", "explain-one")):
            (IMAGES / f"{kept}.png").write_bytes((Path(folder) / f"{made}.png").read_bytes())


def pages() -> None:
    """The page after a click on a drawing, at the size of a desk and of a phone."""
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, (drawing, options) in VIEWS.items():
            page = browser.new_context(**options).new_page()
            page.goto(url)
            page.get_by_role("button", name=drawing).click()
            page.wait_for_selector("html[data-state=result]")
            page.screenshot(path=IMAGES / f"{name}.png", full_page=True, animations="disabled")
        browser.close()


if __name__ == "__main__":
    explanations()
    pages()
