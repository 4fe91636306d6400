"""The states the page can be seen in, and pictures of them."""

import os
from pathlib import Path
from typing import Any

RESULT, ERROR = "html[data-state=result]", "html[data-state=error]"
# For whoever wants to look at them: RESATTN_SCREENSHOTS=folder pytest tests/serving/test_page*.py
SCREENSHOTS = os.environ.get("RESATTN_SCREENSHOTS")


def shot(page: Any, name: str) -> None:
    """A picture of the whole page, where somebody asked for it."""
    if SCREENSHOTS:
        path = Path(SCREENSHOTS) / f"{name}.png"
        page.screenshot(full_page=True, path=path, animations="disabled")
