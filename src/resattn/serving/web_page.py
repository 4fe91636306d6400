"""The page and what belongs to it: a fixed list of files of this package, read once; no other file can be asked for."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "web"
SAMPLES = ("lemon", "ladybird", "school-bus", "lighthouse", "mushroom", "goldfish")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
# Path in the address -> file in `FOLDER`.
ASSETS: Mapping[str, str] = {
    "/": "index.html",
    **{f"/assets/{name}": name for name in ("style.css", "app.js", "masks.js", "theme.js", "icon.svg")},
    **{f"/assets/samples/{name}.png": f"samples/{name}.png" for name in SAMPLES},
}


def add_page(app: FastAPI) -> None:
    """Let the application answer GET and HEAD for everything in `ASSETS`."""
    for path, name in ASSETS.items():
        app.add_api_route(path, _answer(FOLDER / name), methods=["GET", "HEAD"], include_in_schema=False)


def _answer(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content = file.read_bytes()
    headers = {
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        # Asked for again each time, and not sent again unless it changed.
        "Cache-Control": "no-cache",
    }

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_TYPES[file.suffix], headers=headers)

    return answer
