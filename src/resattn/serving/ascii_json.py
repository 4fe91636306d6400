"""JSON answers of ASCII characters alone."""

import json
from typing import Any

from starlette.responses import JSONResponse


class AsciiJSONResponse(JSONResponse):
    """Other letters as escapes: names of folders, which are names of classes, need not be text, and UTF-8 is."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
