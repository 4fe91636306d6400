"""Connections that are held open, filled or left unread are ended, and who is refused gets to read why."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from resattn.serving import connections

MIB = 2**20
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def connected(live: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", live.port), timeout=20)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status_from(client: socket.socket) -> int:
    """The status of the next answer, which is read to its end."""
    answer = http.client.HTTPResponse(client)
    answer.begin()
    answer.read()
    return answer.status


def everything_from(client: socket.socket) -> bytes:
    """What the server sends until it ends the connection, in one way or the other."""
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def is_cut_off(client: socket.socket, block: bytes) -> bool:
    """Whether the connection breaks before 64 MiB were sent."""
    try:
        for _ in range(64 * MIB // len(block)):
            client.sendall(block)
    except ConnectionError:
        return True
    return False


def test_empty_lines_hold_no_connection(serve) -> None:
    live = serve(head_seconds=0.5)
    with connected(live) as client:
        client.sendall(GET)
        assert status_from(client) == 200
        client.settimeout(0.1)
        answer, begun = b"", time.monotonic()
        while not answer and time.monotonic() - begun < 20:
            client.sendall(b"\r\n")
            try:
                answer = client.recv(4096)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_comes_after_its_answer_holds_no_connection(serve) -> None:
    live = serve()
    with connected(live) as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        assert status_from(client) == 404
        for _ in range(2):
            client.sendall(b"x")
            time.sleep(0.05)
        until(lambda: not connections_of(live))
        assert everything_from(client) == b""


def test_who_does_not_read_is_given_up(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_UNREAD_SECONDS", 0.5)
    live = serve()
    in_flight = live.service.metrics.in_flight._value.get
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", live.port))
        stuck = 0
        while stuck < 20:
            if in_flight():
                stuck += 1
                time.sleep(0.01)
                continue
            stuck, before = 0, live.service.taken
            client.sendall(b"GET /assets/samples/lemon.png HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda before=before: live.service.taken > before)
        until(lambda: not in_flight())
        everything_from(client)
    assert httpx.get(f"{live.url}/healthz").status_code == 200


def test_a_head_that_is_too_long_is_told_though_it_comes_at_once(serve) -> None:
    live = serve(head_bytes=2000)
    long_lines = (b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\n", GET[:-2] + b"X: y\r\n" * 400)
    for lines in long_lines:
        with connected(live) as client:
            client.sendall(lines + b"\r\n")
            answers = everything_from(client)
        assert answers.startswith(b"HTTP/1.1 431 ")
        assert answers.count(b"HTTP/1.1 ") == 1
    with connected(live) as client:
        client.sendall(GET[:-2] + b"X: " + b"y" * 1800 + b"\r\n\r\n")
        assert status_from(client) == 200


@pytest.mark.parametrize("block", [b"a: b\r\n" * 1000, b"a: " + b"y" * 6000], ids=["headers", "one header"])
def test_headers_behind_a_body_are_counted(serve, monkeypatch: pytest.MonkeyPatch, block: bytes) -> None:
    monkeypatch.setattr(connections, "_LINGER_SECONDS", 300)  # what ends it is the number of bytes
    live = serve()
    with connected(live) as client:
        client.sendall(CHUNKED + b"1\r\nx\r\n0\r\n" + block)
        assert is_cut_off(client, block)
    with connected(live) as client:
        client.sendall(CHUNKED + b"1\r\nx\r\n0\r\na: b\r\n\r\n" + GET)
        until(lambda: live.service.metrics.in_flight._value.get() == 0)
        assert status_from(client) == 405


def test_many_small_chunks_are_a_body(serve) -> None:
    live = serve(head_bytes=2000)
    with connected(live) as client:
        client.sendall(CHUNKED.replace(b"/healthz", b"/v1/predict"))
        for _ in range(400):
            client.sendall(b"5\r\n")
            client.sendall(b"image\r\n")
        client.sendall(b"0\r\n\r\n")
        assert status_from(client) == 415


def test_few_requests_may_be_sent_ahead(serve) -> None:
    live = serve()
    with connected(live) as client:
        client.sendall(GET * 8 + GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert everything_from(client).count(b"HTTP/1.1 200 ") == 9
    with connected(live) as client:
        client.sendall(b"GET /nowhere HTTP/1.1\r\n\r\n" * 10_000)
        everything_from(client)
    assert live.service.taken < 100


def test_an_upload_sent_ahead_may_take_its_time(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_LINGER_SECONDS", 0.3)
    live = serve()
    with connected(live) as client:
        client.sendall(GET + b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nno")
        assert status_from(client) == 200
        time.sleep(1)
        client.sendall(b" im")
        assert status_from(client) == 415


@pytest.mark.parametrize("wrong", [b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\n", b"no HTTP\r\n\r\n"])
def test_no_refusal_stands_before_an_answer_under_way(serve, wrong: bytes) -> None:
    live = serve(head_bytes=2000)
    live.runtime.go.clear()
    image = httpx.get(f"{live.url}/assets/samples/lemon.png").content
    with connected(live) as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(image))
        client.sendall(image)
        until(lambda: bool(live.runtime.batches[2:]))  # those before were to warm up
        client.sendall(wrong)
        assert everything_from(client) == b""
    live.runtime.go.set()
    assert httpx.get(f"{live.url}/healthz").status_code == 200


def test_a_body_that_is_no_http_is_told_so(serve) -> None:
    with connected(serve()) as client:
        client.sendall(CHUNKED.replace(b"/healthz", b"/v1/predict") + b"1\r\nx\r\nthis is no chunk\r\n")
        answers = everything_from(client)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1


def test_who_asks_to_close_reads_why_it_was_refused(serve) -> None:
    """Python's urllib asks so in every request."""
    live = serve(body_bytes=MIB, token="a-token-of-some-length")
    for token, status in (("another", 401), ("a-token-of-some-length", 413)):
        request = urllib.request.Request(
            f"{live.url}/v1/predict",
            data=bytes(17 * MIB),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "image/png"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code == status
        assert json.loads(refused.value.read())["error"]
    with connected(live) as client:
        client.sendall(b"POST /v1/predict HTTP/1.0\r\nContent-Length: 9999999\r\n\r\n")
        for _ in range(100):
            client.sendall(b"x" * 10_000)
        assert everything_from(client).startswith(b"HTTP/1.1 401 ")


def test_who_asks_to_close_may_not_send_for_ever(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_LINGER_SECONDS", 0.5)
    live = serve(body_bytes=MIB)
    with connected(live) as client:
        client.sendall(b"POST /v1/predict HTTP/1.0\r\nContent-Length: 999999999\r\n\r\n")
        until(lambda: not connections_of(live))
        assert everything_from(client).startswith(b"HTTP/1.1 413 ")


def connections_of(live: Any) -> int:
    return len(live.server._uvicorn.server_state.connections)


@pytest.mark.parametrize("address", [b"http://host:8000", b"http://h:99999/"])
def test_an_address_that_is_none_is_told_so(serve, address: bytes) -> None:
    with connected(serve()) as client:
        client.sendall(b"GET " + address + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert everything_from(client).startswith(b"HTTP/1.1 400 ")
