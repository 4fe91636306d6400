"""The verb of the `resattn` command that serves a network over HTTP: arguments in, one call."""

import logging
import math
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from PIL import Image

from resattn.errors import ResattnError
from resattn.tables import console

TOKEN_VARIABLE = "RESATTN_TOKEN"
_SHORTEST_TOKEN = 16
_HERE = ("127.0.0.1", "::1", "localhost")


def serve(
    source: Annotated[
        str | None,
        Parameter(help="A run folder, a weights file, a model's name or a file of `resattn export`."),
    ] = None,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    batch_size: int = 32,
    queue: int = 128,
    body_mib: float = 16,
    megapixels: float = 50,
    timeout: float = 20,
) -> None:
    """Serve a network over HTTP, with a page that shows what it sees: the shipped one, or your own.

    POST an image to /v1/predict; the interface describes itself at /openapi.json. Where the environment variable
    RESATTN_TOKEN or --token-file holds a token, requests have to carry it: `Authorization: Bearer TOKEN`.

    Parameters
    ----------
    host
        The address to listen on; this machine alone unless another is given, 0.0.0.0 for all networks.
    port
        The port; 0 takes a free one.
    token_file
        A file whose only line is the token.
    batch_size
        How many images that arrive together are computed together.
    queue
        How many images may wait; further ones are told to come back (429).
    body_mib
        The largest request, in MiB.
    megapixels
        The largest image, in millions of pixels.
    timeout
        Seconds from an image to its answer.
    """
    _require_packages()
    from resattn.models.pretrained import best_pretrained
    from resattn.serving import listening
    from resattn.serving.limits import Limits
    from resattn.serving.runtime import open_runtime
    from resattn.serving.server import create_app

    base = Limits()
    body = _whole(body_mib * 2**20, "--body-mib", body_mib)
    limits = replace(
        base,
        batch=batch_size,
        queue=queue,
        images=max(1, min(base.images, queue)),
        body_bytes=body,
        held_bytes=max(base.held_bytes, 4 * body),
        pixels=_whole(megapixels * 1e6, "--megapixels", megapixels),
        answer_seconds=timeout,
    )
    token = read_token(token_file)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    # Pillow only warns of images that are just over its limit, and a server's terminal is nobody's concern.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with listening.listen(host, port) as listener:
        runtime = open_runtime(source or best_pretrained())
        address = listening.address_of(listener)

        def say_ready() -> None:
            console.print(f"[bold]{runtime.model}[/bold] is on [bold]{address}[/bold]; Ctrl-C stops it.")
            if host not in _HERE and token is None:
                print(f"anyone who reaches {host} may use it: {TOKEN_VARIABLE} sets a token", file=sys.stderr)

        app = create_app(runtime, limits=limits, token=token)
        listening.Server(app, on_ready=say_ready).run(listener)
    service = app.state.service
    if service.given_up:
        print(f"stopped; of {service.taken} requests taken {service.given_up} were given up", file=sys.stderr)
        sys.exit(1)
    print(f"stopped; {service.taken} requests were taken, and all are answered", file=sys.stderr)


def read_token(file: Path | None) -> str | None:
    """The token in `file`, or else in $RESATTN_TOKEN; None where neither is given.

    Never an argument: those are shown to everyone on the machine. Raises ResattnError for one that is short, or holds
    what a header cannot.
    """
    if file is not None:
        try:
            token, where = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeError) as error:
            raise ResattnError(
                f"{file} could not be read: {error}", "name a file that holds a token"
            ) from error
    elif TOKEN_VARIABLE in os.environ:
        token, where = os.environ[TOKEN_VARIABLE].strip(), TOKEN_VARIABLE
    else:
        return None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ResattnError(
            f"{where} holds no token: {_SHORTEST_TOKEN} letters and digits or more, without spaces",
            f"make one: python -c 'import secrets; print(secrets.token_urlsafe())' > {file or 'token'}",
        )
    return token


def _whole(number: float, option: str, given: float) -> int:
    """`number` rounded; ResattnError, naming the option, where it has no end or is no number."""
    if not math.isfinite(number):
        raise ResattnError(f"{option} is {given}", "give a number above 0")
    return round(number)


def _require_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ResattnError(
            f"this needs {error.name}, which is not installed", "pip install 'resattn[serve]'"
        ) from error
