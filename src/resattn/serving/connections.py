"""Connections that nobody can hold open by saying little: uvicorn's protocol with limits on the head of a request."""

import asyncio
from http import HTTPStatus
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from resattn.serving.front import SECURITY_HEADERS
from resattn.serving.limits import Limits
from resattn.serving.refusals import Refusal

# How long a client that was answered may go on sending its body: long enough to read why it should not.
_LINGER_SECONDS = 5.0
# The same for one that was refused before its request was read.
_REFUSED_SECONDS = 1.0


def guarded(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol for uvicorn's setting `http`.

    The head of a request has `limits.head_seconds` (then 408) and `limits.head_bytes` (431); connections beyond
    `limits.connections` are told 503. A client that was answered before its body had arrived may send on for 5 s, so
    that it gets to read the answer, and is then cut off.
    """
    return type("Guarded", (_Guarded,), {"limits": limits})


class _Guarded(HttpToolsProtocol):
    limits: ClassVar[Limits]
    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0
    _receiving = False
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer(self.limits.head_seconds)
        if len(self.connections) > self.limits.connections:
            self._refuse(
                Refusal(503, "too many connections are open", "send it again in a second", retry_after=1)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_timer(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_in_head = self._in_head
        super().data_received(data)
        if not (was_in_head and self._in_head):
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.limits.head_bytes:
            self._refuse(Refusal(431, "the head of the request is too long", "send fewer or shorter headers"))

    def on_message_begin(self) -> None:
        self._in_head = self._receiving = True
        self._set_timer(self.limits.head_seconds)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._set_timer(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._receiving = False
        self._set_timer(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._receiving and not self._in_head:
            self._set_timer(_LINGER_SECONDS)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        if self._refused or (self._receiving and not self._in_head):
            self.transport.close()  # it was answered already
        elif self.cycle is not None and not self.cycle.response_complete:
            self._set_timer(self.limits.head_seconds)  # an answer to the request before is under way
        else:
            limit = f"{self.limits.head_seconds:g} s"
            self._refuse(
                Refusal(408, f"the head of the request did not arrive within {limit}", "send it at once")
            )

    def _refuse(self, refusal: Refusal) -> None:
        response = refusal.response()
        lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode()]
        headers = [*response.raw_headers, *SECURITY_HEADERS, (b"connection", b"close")]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body))
        self._unset_keepalive_if_required()
        # Closed with something unread, the connection would be reset, and the answer lost on the way.
        self._refused = True
        self.transport.write_eof()
        self._set_timer(_REFUSED_SECONDS)
