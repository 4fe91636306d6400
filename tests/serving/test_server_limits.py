"""What is too large, too slow, too much or no image gets its status, while other clients are served."""

import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from PIL import Image

from resattn.serving import connections

MIB = 2**20


def png(size: tuple[int, int] = (50, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 20, 20)).save(file, "PNG")
    return file.getvalue()


RED = png()


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def jpeg_cut_short() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((200, 200), 60).convert("RGB").save(file, "JPEG")
    return file.getvalue()[:2000]


@contextmanager
def others_are_served(url: str) -> Iterator[None]:
    """A client that asks all the time, and is answered 200 within 5 s each time."""
    done = threading.Event()

    def ask() -> int:
        asked = 0
        with httpx.Client(timeout=5) as client:
            while not done.is_set():
                assert client.post(f"{url}/v1/predict", content=RED).status_code == 200
                asked += 1
        return asked

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            time.sleep(0.05)
            done.set()
        assert asking.result(30) > 0


def refused(answer: httpx.Response, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "mend"}
    assert said in answer.json()["error"]
    assert ("retry-after" in answer.headers) == (status in (429, 503))


@pytest.fixture(scope="module")
def url(serve_once) -> str:
    return serve_once(body_bytes=MIB, pixels=1_000_000, images=4).url


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 422, "is empty"),
        (b"no image at all", 415, "no image"),
        (b"GIF89a", 415, "no image"),
        (RED[:70], 422, "damaged or cut short"),
        (jpeg_cut_short(), 422, "damaged or cut short"),
        (claiming(1001, 1000), 413, "1001 x 1000 pixels, and 1,000,000 are the limit"),
        (claiming(60_000, 60_000), 413, "pixels"),
        (claiming(2**31 - 1, 2**31 - 1), 413, "pixels"),
        (claiming(0, 5), 415, "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", 415, "no image"),
        (b"x" * (MIB + 1), 413, "larger than 1 MiB"),
    ],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else None,
)
# Pillow warns of some of the sizes that the server refuses.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_bodies_have_their_status(url: str, content: bytes, status: int, said: str) -> None:
    with others_are_served(url):
        refused(httpx.post(f"{url}/v1/predict", content=content), status, said)
        form = httpx.post(f"{url}/v1/predict", files={"image": ("a", content)})
        refused(form, status, said)


def test_a_real_bomb_is_not_decoded(url: str) -> None:
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    with others_are_served(url):
        begun = time.perf_counter()
        refused(httpx.post(f"{url}/v1/predict", content=file.getvalue()), 413, "9000 x 9000")
        assert time.perf_counter() - begun < 2


def progressive(repeated: int) -> bytes:
    """A JPEG whose last scan, which refines what the others drew, comes so many times more."""
    file = io.BytesIO()
    Image.new("RGB", (50, 40), (200, 20, 20)).save(file, "JPEG", progressive=True)
    whole, end = file.getvalue()[:-2], file.getvalue()[-2:]
    return whole + whole[whole.rindex(b"\xff\xda") :] * repeated + end


def test_a_jpeg_is_not_gone_over_for_ever(url: str) -> None:
    assert len(progressive(1000)) < 32 * 1024
    with others_are_served(url):
        refused(httpx.post(f"{url}/v1/predict", content=progressive(1000)), 413, "more than 100 scans")
    # What real files hold is taken: some scans, and films behind the image in which anything may occur.
    for taken in (progressive(0), progressive(50), progressive(0) + b"\xff\xda some film" * 1000):
        answer = httpx.post(f"{url}/v1/predict", content=taken)
        assert answer.json()["descriptions"][0] == "red", answer.text


def test_a_tiff_is_not_taken_apart_for_ever(url: str) -> None:
    entries = [(256, 3, 2), (257, 3, 2), (258, 3, 8), (259, 3, 1), (262, 3, 1), (322, 3, 1), (323, 3, 1)]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries) + 1)
    head += b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries)
    tiles = 500_000
    body = head + struct.pack("<HHII", 324, 1, tiles, len(head) + 16) + bytes(4) + b"\x08" * tiles
    with others_are_served(url):
        refused(httpx.post(f"{url}/v1/predict", content=body), 413, "500,000 strips or tiles")


def test_pages_of_other_sites_are_refused(url: str) -> None:
    for site, status in (("cross-site", 403), ("same-site", 200), ("same-origin", 200), ("none", 200)):
        answer = httpx.post(f"{url}/v1/predict", content=RED, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status
    refused(
        httpx.post(f"{url}/v1/predict", content=RED, headers={"sec-fetch-site": "cross-site"}), 403, "site"
    )
    assert httpx.get(f"{url}/v1/model", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_forms_that_are_none(url: str) -> None:
    def post(content: bytes, kind: str = "multipart/form-data; boundary=b") -> httpx.Response:
        return httpx.post(f"{url}/v1/predict", content=content, headers={"Content-Type": kind})

    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + RED + b"\r\n"
    assert post(part + b"--b--\r\n").status_code == 200
    refused(post(part), 422, "cut short")
    refused(post(b""), 422, "cut short")
    refused(post(b"nonsense"), 422, "damaged")
    refused(post(part.replace(b'"image"', b'"other"') + b"--b--\r\n"), 422, "no file in the field 'image'")
    refused(post(part * 2 + b"--b--\r\n"), 422, "2 images")
    refused(post(part, "multipart/form-data"), 422, "what separates its parts")
    refused(post(part * 99 + b"--b--\r\n"), 413, "parts")
    long_header = b"X: " + b"y" * 100_000 + b"\r\n"
    refused(post(b"--b\r\n" + long_header + part[5:] + b"--b--\r\n"), 422, "damaged")
    for kind in (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=b",
    ):
        refused(post(RED, kind), 415, "is no image")


def test_too_many_images(url: str) -> None:
    files = [("images", (f"{k}.png", RED)) for k in range(5)]
    refused(httpx.post(f"{url}/v1/predict-batch", files=files), 413, "5 images, and 4 are the limit")
    assert httpx.post(f"{url}/v1/predict-batch", files=files[:4]).status_code == 200


def test_a_body_without_end_is_cut_off(url: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b"x" * MIB

    with others_are_served(url):
        refused(httpx.post(f"{url}/v1/predict", content=endless(), timeout=20), 413, "larger than 1 MiB")


def test_a_declared_body_is_refused_before_it_is_sent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_LINGER_SECONDS", 0.5)
    host = httpx.URL(url)
    with socket.create_connection((host.host, host.port), timeout=10) as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
        # It may go on for a while, so that it gets to read the answer, but not for ever.
        begun = time.perf_counter()
        sending = True
        while sending and time.perf_counter() - begun < 20:
            try:
                client.sendall(b"x" * 1000)
                time.sleep(0.02)
            except OSError:
                sending = False
        assert not sending
        assert time.perf_counter() - begun > 0.3


def test_slow_uploads_are_given_up(serve) -> None:
    live = serve(upload_seconds=0.5, head_seconds=0.5, head_bytes=2000)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with others_are_served(live.url):
        for sent, status in ((head + b"x", b"408"), (head[:20], b"408"), (b"", b"408")):
            with socket.create_connection(("127.0.0.1", live.port), timeout=10) as client:
                client.sendall(sent)
                begun = time.perf_counter()
                assert client.recv(4096).startswith(b"HTTP/1.1 " + status), sent
                assert 0.3 < time.perf_counter() - begun < 5
                while client.recv(4096):
                    pass  # the rest, then the end of the connection
        with socket.create_connection(("127.0.0.1", live.port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            # All of it is read away: closed at once, the connection would lose the answer.
            for number in range(60):
                client.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))
                time.sleep(0.001)
            assert client.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_who_drips_is_given_up_though_bytes_keep_coming(serve) -> None:
    live = serve(upload_seconds=0.6, head_seconds=0.6)
    for head in (
        b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: ",
    ):
        with socket.create_connection(("127.0.0.1", live.port), timeout=10) as client:
            client.sendall(head)
            client.settimeout(0.1)
            answer, begun = b"", time.perf_counter()
            while not answer and time.perf_counter() - begun < 5:
                client.sendall(b"x")
                try:
                    answer = client.recv(4096)
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408 ")
