"""The server as a process: a socket, uvicorn on it, and an end that loses nothing."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from resattn.errors import ResattnError
from resattn.serving.connections import guarded
from resattn.serving.service import Service

_BACKLOG = 1024
# Beyond what the limits allow a request that was taken, for what is written at the end.
_GRACE_SECONDS = 2


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises ResattnError where the address cannot be had."""
    if not 0 <= port <= 65535:
        raise ResattnError(f"there is no port {port}", "choose one from 1 to 65535, or 0 for a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:  # the last for what no host can be called
        reason = getattr(error, "strerror", None) or str(error)
        raise ResattnError(
            f"cannot listen on {host}, port {port}: {reason}", "choose others with --host and --port"
        ) from error


def address_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server:
    """Serves an application that `create_app` made, until SIGTERM, SIGINT or `stop`; then finishes what was taken.

    From then on nothing new is taken: the socket closes, and requests on open connections are told 503. Requests that
    were taken, also those whose body is still arriving, are answered; a second SIGINT gives them up. `on_ready` is
    called once clients are answered.
    """

    def __init__(self, app: FastAPI, *, on_ready: Callable[[], None] = lambda: None) -> None:
        self._service: Service = app.state.service
        limits = self._service.limits
        config = uvicorn.Config(
            app,
            http=guarded(limits),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(limits.upload_seconds + limits.answer_seconds + _GRACE_SECONDS),
        )
        self._uvicorn = _Uvicorn(config, self._service.refuse_new, on_ready)

    def run(self, listener: socket.socket) -> None:
        """Serve on a socket of `listen`, and close it. Raises ResattnError where the network gives no numbers."""
        self._service.warm_up()
        self._uvicorn.run(sockets=[listener])

    def stop(self) -> None:
        """What a signal does; from any thread."""
        self._uvicorn.handle_exit(signal.SIGTERM, None)


class _Uvicorn(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, on_stop: Callable[[], None], on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own sends itself the signal again at the end, and a stop that went well would look like a death.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)
