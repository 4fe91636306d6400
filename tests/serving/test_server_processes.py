"""`resattn serve` as a process: its options, many clients at once, and SIGTERM in the middle of them."""

import http.client
import importlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from PIL import Image

from resattn.cli_serve import read_token
from resattn.cli_serve import serve as serve_command
from resattn.errors import ResattnError

TOKEN = "a-token-of-some-length"
CLIENTS = 32


@contextmanager
def served(*arguments: object, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The command on a free port; it is killed where it is still there at the end."""
    command = [sys.executable, "-m", "resattn_launcher", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | environment,
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@dataclass
class Client:
    """Asks on one connection until it is refused: the statuses it saw, and what broke the connection."""

    port: int
    image: bytes
    stop: threading.Event
    answered: list[int] = field(default_factory=list)
    broken: Exception | None = None

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "image/png", "Authorization": f"Bearer {TOKEN}"}
        while not self.stop.is_set():
            try:
                connection.request("POST", "/v1/predict?masks=true", body=self.image, headers=headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.broken = error
                break
            self.answered.append(answer.status)
            if answer.status != 200:
                break
        connection.close()


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (50, 40), (200, 20, 20)).save(file, "PNG")
    return file.getvalue()


def test_sigterm_under_load_finishes_what_was_taken(trained_dots, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    with served(trained_dots.run, "--token-file", tmp_path / "token") as (process, port):
        assert TOKEN not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert httpx.get(f"http://127.0.0.1:{port}/v1/model").status_code == 401
        clients = [Client(port, png(), threading.Event()) for _ in range(CLIENTS)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while sum(len(client.answered) for client in clients) < 10 * CLIENTS and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        taken = re.search(r"stopped; (\d+) requests were taken, and all are answered", errors)
    statuses = [status for client in clients for status in client.answered]
    assert set(statuses) <= {200, 503}
    # What the server took, that the clients have: one was asked for its token above.
    assert int(taken[1]) == statuses.count(200) + 1
    assert statuses.count(200) >= 10 * CLIENTS
    # Nobody was cut off in the middle of an answer.
    for error in (client.broken for client in clients if client.broken):
        assert isinstance(error, ConnectionError | http.client.RemoteDisconnected)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz")


def test_what_a_second_interrupt_gives_up_is_told() -> None:
    with served() as (process, port), socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        deadline = time.monotonic() + 60
        while "resattn_requests_in_flight 2.0" not in httpx.get(f"http://127.0.0.1:{port}/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        until_refused(port)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert re.search(r"stopped; of \d+ requests taken 1 were given up", errors), errors
    assert "all are answered" not in errors


def until_refused(port: int) -> None:
    """Waits until the server listens no more."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError("the server listens still")


@pytest.mark.long
def test_many_clients_and_the_load_benchmark(
    trained_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The short form ends where an answer is not 200, or names another class than the image has alone."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    script = importlib.import_module("server_load")
    # The server has a process of its own all the same.
    monkeypatch.setattr(script.measuring, "in_fresh_process", lambda _script, cell: script.measure_cell(cell))
    options = ["--clients", str(CLIENTS), "--seconds", "1", "--json", str(tmp_path / "out.json")]
    script.main([str(trained_dots.run), "--short", *options])
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert list(results) == [script.BARE, script.DECODING, script.SERVER]
    assert all(one["images_per_second"]["median"] > 0 for one in results.values())
    assert results[script.BARE]["share_of_the_network"]["median"] == 1
    assert results[script.SERVER]["images"]["median"] > CLIENTS
    assert results[script.SERVER]["p99_ms"]["median"] >= results[script.SERVER]["p50_ms"]["median"] > 0
    assert "of the network alone" in capsys.readouterr().out


def test_options_that_are_wrong_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESATTN_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("RESATTN_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    for bad in ("", "short", "sixteen letters and a space", "sechzehn-und-mehr-ü"):
        monkeypatch.setenv("RESATTN_TOKEN", bad)
        with pytest.raises(ResattnError, match="RESATTN_TOKEN holds no token") as caught:
            read_token(None)
        assert not bad or bad not in str(caught.value)
    with pytest.raises(ResattnError, match="absent could not be read"):
        read_token(tmp_path / "absent")
    monkeypatch.delenv("RESATTN_TOKEN")
    for options, said in (
        ({"port": 70_000}, "no port 70000"),
        ({"queue": 0}, "queue is 0"),
        ({"batch_size": -1}, "batch is -1"),
        ({"megapixels": 1000.0}, "decoded up to"),
        ({"megapixels": float("nan")}, "--megapixels is nan"),
        ({"body_mib": float("inf")}, "--body-mib is inf"),
        ({"body_mib": 1e308}, "--body-mib is 1e"),
        ({"timeout": float("inf")}, "answer_seconds is inf"),
        ({"timeout": float("nan")}, "answer_seconds is nan"),
        ({"host": "foo..bar"}, r"cannot listen on foo\.\.bar"),
        ({"host": "no.such.host.invalid"}, "cannot listen on no.such.host.invalid"),
    ):
        with pytest.raises(ResattnError, match=said):
            serve_command(str(tmp_path), **options)
    with pytest.raises(ResattnError, match="holds no run"):
        serve_command(str(tmp_path), port=0)
