"""A network that can be held up, servers around it that end with the test, and a browser for their page."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SIDE = 32
CHROMIUM = Path("/usr/bin/chromium")


@dataclass
class FakeRuntime:
    """Tells red, green and blue by the mean colour; its one mask is the red channel, twice.

    `go` holds it up while it is cleared; `batches` are the sizes it was called with.
    """

    model: str = "fake"
    data: str = "colours"
    labels: tuple[str, ...] = ("n0", "n1", "n2")
    descriptions: tuple[str, ...] = ("red", "green", "blue")
    input_size: tuple[int, int, int] = (3, SIDE, SIDE)
    mask_names: tuple[str, ...] = ("stage1.0",)
    batches: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.go.set()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (SIDE, SIDE, 3)
        self.batches.append(len(images))
        assert self.go.wait(20)
        if self.failure is not None:
            raise self.failure
        return images.mean((1, 2)).astype(np.float32) / 10

    def with_masks(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        red = images[:, ::4, ::4, 0].astype(np.float32) / 255
        return self(images), {"stage1.0": np.stack([red, red], 1)}


@dataclass
class Live:
    """A server in a thread of this process."""

    url: str
    port: int
    runtime: Any
    service: Any
    server: Any
    thread: threading.Thread

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()


Serve = Callable[..., Live]


@pytest.fixture
def fake_runtime() -> type[FakeRuntime]:
    """The class above."""
    return FakeRuntime


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server: of a runtime (a fake one where left out), with limits by name and a token."""
    yield from _servers()


@pytest.fixture(scope="module")
def serve_once() -> Iterator[Serve]:
    """As `serve`, for servers that several tests share."""
    yield from _servers()


@pytest.fixture(scope="module")
def url(serve_once) -> str:
    """The address of a server of a fake runtime."""
    return serve_once().url


def _servers() -> Iterator[Serve]:
    from resattn.serving.limits import Limits
    from resattn.serving.listening import Server, address_of, listen
    from resattn.serving.server import create_app

    started: list[Live] = []

    def start(runtime: Any = None, *, token: str | None = None, **limits: Any) -> Live:
        runtime = runtime or FakeRuntime()
        app = create_app(runtime, limits=Limits(**limits), token=token)
        listener = listen("127.0.0.1", 0)
        url, port = address_of(listener), listener.getsockname()[1]
        ready = threading.Event()
        server = Server(app, on_ready=ready.set)
        thread = threading.Thread(target=server.run, args=(listener,))
        thread.start()
        live = Live(url, port, runtime, app.state.service, server, thread)
        started.append(live)
        assert ready.wait(30)
        return live

    yield start
    for live in started:
        if isinstance(live.runtime, FakeRuntime):
            live.runtime.go.set()
        live.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; tests that need it skip where it is absent."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser at {CHROMIUM}: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox does not work for root, which containers are run as.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser) -> Iterator[Any]:
    """Opens the page of a server, after a script where one is given.

    The test fails for any request to another host, and any error in the page.
    """
    contexts, wrong = [], []

    def open_(url: str, *, script: str = "", **options: Any) -> Any:
        context = browser.new_context(**options)
        context.add_init_script(script)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: "Security" in message.text and wrong.append(message.text))
        page.on(
            "request",
            lambda request: request.url.startswith((url, "blob:", "data:")) or wrong.append(request.url),
        )
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []
