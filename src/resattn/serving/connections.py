"""Connections that nobody can hold open by saying little or reading nothing: uvicorn's protocol with limits."""

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from resattn.serving.front import SECURITY_HEADERS
from resattn.serving.limits import Limits
from resattn.serving.refusals import Refusal

# How long a client that was answered may go on sending its body: long enough to read why it should not.
_LINGER_SECONDS = 5.0
# The same for one that was refused before its request was read.
_REFUSED_SECONDS = 1.0
# How long a client may leave unread what it was sent.
_UNREAD_SECONDS = 30.0
# How many requests may wait on a connection for the answer to one before them.
_PIPELINED = 8
# What a header takes beside its name and its value: colon, space, end of line.
_AROUND_HEADER = 4


def guarded(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol for uvicorn's setting `http`.

    The head of a request has `limits.head_seconds` (then 408) and `limits.head_bytes` (431); connections beyond
    `limits.connections` are told 503. A client that was answered before its body had arrived may send on for 5 s, so
    that it gets to read the answer, and is then cut off. Cut off without an answer are clients that leave one unread
    for 30 s, that send `limits.head_bytes` around and behind a body, or more than 8 requests ahead of their answers.
    """
    return type("Guarded", (_Guarded,), {"limits": limits})


class _Transport:
    """What uvicorn writes to and closes, which it does in many places: how it is closed, the protocol decides."""

    def __init__(self, transport: asyncio.Transport, protocol: "_Guarded") -> None:
        self._transport = transport
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._protocol.ended or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if not self.is_closing():
            self._protocol.end(self._transport)


class _Guarded(HttpToolsProtocol):
    limits: ClassVar[Limits]
    ended = False  # what is read from now on is dropped, what is written too
    _timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _in_head = False
    _receiving = False
    _header_bytes = 0  # address and headers of a request, those behind its body included
    _loose_bytes = 0  # read since the last that were the end of a head, or of a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Transport(transport, self))  # type: ignore[arg-type]
        self._set_timer(self.limits.head_seconds)
        if len(self.connections) > self.limits.connections:
            self._refuse(
                Refusal(503, "too many connections are open", "send it again in a second", retry_after=1)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._set_timer(None)
        self._set_unread_timer(None)

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        was_idle = self.timeout_keep_alive_task is not None
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > self.limits.head_bytes:
            self._refuse_head()
        elif was_idle and not self._receiving and not self._is_answering() and self._timer is None:
            # Empty lines before a request: they ended uvicorn's patience, and begin none of ours.
            self._set_timer(self.limits.head_seconds)

    def pause_writing(self) -> None:
        self._set_unread_timer(_UNREAD_SECONDS)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._set_unread_timer(None)
        super().resume_writing()

    def on_message_begin(self) -> None:
        if self.ended:
            return
        self._in_head = self._receiving = True
        self._header_bytes = self._loose_bytes = 0
        self._set_timer(self.limits.head_seconds)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.ended:
            super().on_url(url)
            self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.ended:
            super().on_header(name, value)
            self._count(len(name) + len(value) + _AROUND_HEADER)

    def on_headers_complete(self) -> None:
        if self.ended:
            return
        self._loose_bytes = 0
        self._set_timer(None)
        super().on_headers_complete()  # raises for an address that is none, when no request has begun yet
        self._in_head = False
        if len(self.pipeline) > _PIPELINED:
            self._cut_off()

    def on_body(self, body: bytes) -> None:
        if not self.ended:
            self._loose_bytes = 0
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.ended:
            return
        self._receiving = False
        self._loose_bytes = 0
        self._set_timer(None)
        super().on_message_complete()
        if not self._is_answering():
            # It was answered before its body was there, and the body ended uvicorn's patience: that begins again.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body() and not self._is_answering() and not self.ended:
            self._set_timer(_LINGER_SECONDS)

    def send_400_response(self, msg: str) -> None:
        # What is wrong with a body may be the answer to its request, unless there was one, or others come first.
        if self.pipeline or self._is_answering() is not self._in_body():
            self._cut_off()
        else:
            super().send_400_response(msg)

    def end(self, transport: asyncio.Transport) -> None:
        """Close the connection once all is sent; whoever is still sending a body may go on for a while.

        Closed with something unread, the connection would be reset, and the answer lost on the way.
        """
        if self._in_body():
            self._linger(_LINGER_SECONDS)
            return
        self.ended = True
        transport.close()
        self._set_timer(_UNREAD_SECONDS)

    def _linger(self, seconds: float) -> None:
        self.ended = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._set_timer(seconds)

    def _cut_off(self) -> None:
        self.ended = True
        self.transport.abort()

    def _is_answering(self) -> bool:
        """Whether a request is yet to be answered; one whose head is still arriving does not count."""
        return self.cycle is not None and not self.cycle.response_complete

    def _in_body(self) -> bool:
        """Whether a request has begun, its head is there, and its end is not."""
        return self._receiving and not self._in_head

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _set_unread_timer(self, seconds: float | None) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        self._unread_timer = None if seconds is None else self.loop.call_later(seconds, self._cut_off)

    def _too_slow(self) -> None:
        if self.ended or self._in_body():
            self._cut_off()  # it was answered already
        elif self._is_answering():
            self._set_timer(self.limits.head_seconds)  # an answer to the request before is under way
        else:
            limit = f"{self.limits.head_seconds:g} s"
            self._refuse(
                Refusal(408, f"the head of the request did not arrive within {limit}", "send it at once")
            )

    def _count(self, header_bytes: int) -> None:
        self._header_bytes += header_bytes
        if self._header_bytes > self.limits.head_bytes:
            self._refuse_head()

    def _refuse_head(self) -> None:
        if self._is_answering() or self._in_body():
            # A refusal would stand in the middle of an answer, or behind the only one there is to be.
            self._cut_off()
        else:
            self._refuse(Refusal(431, "the head of the request is too long", "send fewer or shorter headers"))

    def _refuse(self, refusal: Refusal) -> None:
        response = refusal.response()
        lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode()]
        headers = [*response.raw_headers, *SECURITY_HEADERS, (b"connection", b"close")]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body))
        self._linger(_REFUSED_SECONDS)
