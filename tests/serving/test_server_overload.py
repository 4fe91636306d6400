"""A server that has too much to do, or is told to stop: who is turned away, and who is still answered."""

import io
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image

from resattn.errors import ResattnError
from resattn.hardware import usable_cores
from resattn.serving.listening import listen


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (50, 40), (200, 20, 20)).save(file, "PNG")
    return file.getvalue()


RED = png()


def refused(answer: httpx.Response, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "mend"}
    assert said in answer.json()["error"]
    assert ("retry-after" in answer.headers) == (status in (429, 503))


def held_up(live: Any, count: int) -> tuple[ThreadPoolExecutor, list[Any]]:
    """`count` requests that the network does not answer yet."""
    live.runtime.go.clear()
    pool = ThreadPoolExecutor(count)
    asked = [pool.submit(httpx.post, f"{live.url}/v1/predict", content=RED, timeout=30) for _ in range(count)]
    until(lambda: live.service._batcher.taken == count)
    return pool, asked


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_queue_says_when_to_come_back(serve) -> None:
    live = serve(queue=4, images=4)
    pool, asked = held_up(live, 4)
    with pool:
        refused(httpx.post(f"{live.url}/v1/predict", content=RED), 429, "queue is full: 4 of its 4")
        assert httpx.get(f"{live.url}/healthz").status_code == 200
        live.runtime.go.set()
        assert [one.result().status_code for one in asked] == [200] * 4
    assert httpx.post(f"{live.url}/v1/predict", content=RED).status_code == 200


def test_too_many_requests_and_too_many_bytes_at_once(serve) -> None:
    live = serve(requests=3, body_bytes=1000, held_bytes=1500)
    pool, asked = held_up(live, 3)
    with pool:
        refused(httpx.get(f"{live.url}/v1/model"), 429, "too many requests")
        assert httpx.get(f"{live.url}/readyz").status_code == 200
        live.runtime.go.set()
        assert [one.result().status_code for one in asked] == [200] * 3
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", live.port)) as one:
        one.sendall(head + b"x" * 900)
        until(lambda: live.service._uploads._held == 900)
        refused(httpx.post(f"{live.url}/v1/predict", content=b"x" * 900), 429, "too many uploads")
    until(lambda: live.service._uploads._held == 0)
    assert httpx.post(f"{live.url}/v1/predict", content=RED).status_code == 200


def test_too_many_connections(serve) -> None:
    live = serve(connections=3)
    idle = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(3)]
    try:
        time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", live.port), timeout=10) as client:
            answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
    finally:
        for one in idle:
            one.close()
    until(lambda: httpx.get(f"{live.url}/healthz").status_code == 200)


def test_no_answer_in_time(serve) -> None:
    live = serve(answer_seconds=0.4)
    live.runtime.go.clear()
    refused(httpx.post(f"{live.url}/v1/predict", content=RED, timeout=20), 504, "within 0.4 s")
    files = [("images", (f"{k}.png", RED)) for k in range(3)]
    refused(httpx.post(f"{live.url}/v1/predict-batch", files=files, timeout=20), 504, "within 0.4 s")
    live.runtime.go.set()
    assert httpx.post(f"{live.url}/v1/predict", content=RED).status_code == 200
    # Nobody waited for the three: they were not computed.
    assert 3 not in live.runtime.batches
    assert live.service._batcher.taken == 0


def test_no_answer_in_time_while_others_images_are_decoded(serve) -> None:
    live = serve(answer_seconds=0.4)
    done = threading.Event()
    for _ in range(usable_cores()):
        live.service._uploads._pool.submit(done.wait)
    try:
        for sent in ({"content": RED}, {"files": {"image": ("a.png", RED)}}):
            refused(httpx.post(f"{live.url}/v1/predict", timeout=20, **sent), 504, "within 0.4 s")
    finally:
        done.set()


def test_stopping_finishes_what_was_taken_and_refuses_what_is_new(serve) -> None:
    live = serve()
    pool, asked = held_up(live, 5)
    upload = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(RED)
    with (
        pool,
        socket.create_connection(("127.0.0.1", live.port), timeout=10) as slow,
        httpx.Client() as kept,
    ):
        slow.sendall(upload + RED[:30])
        until(lambda: live.service._uploads._held == 5 * len(RED) + 30)
        kept.get(f"{live.url}/healthz")
        live.service.refuse_new()
        refused(kept.get(f"{live.url}/readyz"), 503, "stopping")
        refused(kept.post(f"{live.url}/v1/predict", content=RED), 503, "stopping")
        live.server.stop()
        until(lambda: not connects(live.port))
        assert not any(one.done() for one in asked)
        slow.sendall(RED[30:])
        live.runtime.go.set()
        assert [one.result().status_code for one in asked] == [200] * 5
        assert slow.recv(4096).startswith(b"HTTP/1.1 200 ")
    live.thread.join(20)
    assert not live.thread.is_alive()


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_an_address_that_is_taken_is_told(serve) -> None:
    live = serve()
    for host, port, said in (("127.0.0.1", live.port, "in use"), ("no.such.host.invalid", 0, "")):
        with pytest.raises(ResattnError, match=f"cannot listen on {host}, port {port}.*{said}"):
            listen(host, port)
    with pytest.raises(ResattnError, match="there is no port 70000"):
        listen("127.0.0.1", 70_000)


def test_a_client_that_goes_away_leaves_nothing(serve) -> None:
    live = serve()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", live.port)) as client:
            client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxx")
    until(lambda: live.service._uploads._held == 0)
    assert httpx.post(f"{live.url}/v1/predict", content=RED).status_code == 200
