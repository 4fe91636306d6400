"""Downloads from a server on this machine: verified, resumed, reused, and never mistaken for whole."""

import errno
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resattn.data import download
from resattn.data.download import Source, fetch
from resattn.data.packed import open_split
from resattn.data.tiny_imagenet import prepare_tiny_imagenet
from resattn.errors import ResattnError


@dataclass
class Served:
    """What the server sends, and what it was asked."""

    content: bytes = b""
    etag: str | None = '"one"'
    ranges: bool = True
    break_after: int | None = None
    status: int = 200
    requests: list[tuple[str | None, int]] = field(default_factory=list)
    url: str = ""

    def source(self, **changes: Any) -> Source:
        md5 = hashlib.md5(self.content).hexdigest()
        return replace(Source(url=self.url, md5=md5, file_name="archive.zip"), **changes)


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            first = 0
            if wanted and state.ranges and self.headers.get("If-Range") == state.etag:
                first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            status = 206 if first else state.status
            if first >= len(state.content) > 0:
                status = 416
            state.requests.append((wanted, status))
            self.send_response(status)
            body = b"" if status >= 400 else state.content[first:]
            if status == 206:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {first}-{last}/{last + 1}")
            if status == 416:
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if state.break_after is None else body[: state.break_after])

        def log_message(self, *_: Any) -> None:
            """Keep the output of the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/archive.zip"
    state.content = np.random.default_rng(0).bytes(1_000_000)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def break_off(served: Served, folder: Path, after: int) -> ResattnError:
    served.break_after = after
    with pytest.raises(ResattnError) as caught:
        fetch(served.source(), folder=folder)
    served.break_after = None
    return caught.value


def test_a_finished_download_is_verified_and_reused(served: Served, tmp_path: Path, samples) -> None:
    path = fetch(served.source(), folder=tmp_path)
    assert path == tmp_path / "archive.zip"
    assert path.read_bytes() == served.content
    assert fetch(served.source(), folder=tmp_path) == path
    assert served.requests == [(None, 200)]
    assert samples.below(tmp_path) == ["archive.zip"]


def test_a_broken_transfer_goes_on_where_it_stopped(served: Served, tmp_path: Path, samples) -> None:
    error = break_off(served, tmp_path, 300_000)
    assert error.what.startswith(f"{served.url} could not be downloaded (")
    assert error.what.endswith("; 0.3 MB are kept")
    assert error.mend.startswith("run the same command again: it goes on where it stopped")
    assert not (tmp_path / "archive.zip").exists()
    break_off(served, tmp_path, 300_000)
    assert fetch(served.source(), folder=tmp_path).read_bytes() == served.content
    assert served.requests == [(None, 200), ("bytes=262144-", 206), ("bytes=524288-", 206)]
    assert samples.below(tmp_path) == ["archive.zip"]


@pytest.mark.parametrize(
    "change",
    [
        lambda served: setattr(served, "ranges", False),
        lambda served: setattr(served, "etag", '"two"'),
    ],
)
def test_it_begins_anew_where_it_cannot_go_on(
    served: Served, tmp_path: Path, change: Callable[[Served], None]
) -> None:
    break_off(served, tmp_path, 300_000)
    served.content = served.content[::-1]
    change(served)
    assert fetch(served.source(), folder=tmp_path).read_bytes() == served.content
    assert served.requests[-1] == ("bytes=262144-", 200)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_a_server_that_names_no_version_is_not_gone_on_from(
    served: Served, tmp_path: Path, etag: str | None
) -> None:
    served.etag = etag
    break_off(served, tmp_path, 300_000)
    assert fetch(served.source(), folder=tmp_path).read_bytes() == served.content
    assert served.requests == [(None, 200), (None, 200)]


def test_all_was_there_when_the_run_was_killed(served: Served, tmp_path: Path) -> None:
    (tmp_path / "archive.zip.part").write_bytes(served.content)
    version = {"url": served.url, "version": served.etag}
    (tmp_path / "archive.zip.part.json").write_text(json.dumps(version))
    assert fetch(served.source(), folder=tmp_path).read_bytes() == served.content
    assert served.requests == [("bytes=1000000-", 416)]


def test_a_part_longer_than_the_file_is_thrown_away(served: Served, tmp_path: Path) -> None:
    (tmp_path / "archive.zip.part").write_bytes(served.content + b"more")
    version = {"url": served.url, "version": served.etag}
    (tmp_path / "archive.zip.part.json").write_text(json.dumps(version))
    assert fetch(served.source(), folder=tmp_path).read_bytes() == served.content
    assert served.requests == [("bytes=1000004-", 416), (None, 200)]


def test_what_has_another_checksum_is_thrown_away_and_fetched_again(
    served: Served, tmp_path: Path, samples
) -> None:
    source = served.source()
    whole, served.content = served.content, served.content[:-1] + b"?"
    with pytest.raises(ResattnError) as caught:
        fetch(source, folder=tmp_path)
    assert caught.value.what == (
        f"{served.url}: what arrived has not the md5 {source.md5}; it was thrown away"
    )
    assert caught.value.mend.startswith("run the same command again to fetch it anew, or fetch ")
    assert samples.below(tmp_path) == []
    served.content = whole
    assert fetch(source, folder=tmp_path).read_bytes() == whole


def test_a_part_that_was_garbled_does_not_become_the_file(served: Served, tmp_path: Path, samples) -> None:
    break_off(served, tmp_path, 300_000)
    with (tmp_path / "archive.zip.part").open("r+b") as file:
        file.write(b"garbled")
    with pytest.raises(ResattnError, match="it was thrown away"):
        fetch(served.source(), folder=tmp_path)
    assert samples.below(tmp_path) == []
    assert fetch(served.source(), folder=tmp_path).read_bytes() == served.content


def test_a_kept_file_that_was_damaged_is_fetched_again(served: Served, tmp_path: Path) -> None:
    path = fetch(served.source(), folder=tmp_path)
    path.write_bytes(served.content[:1000])
    assert fetch(served.source(), folder=tmp_path).read_bytes() == served.content


def test_a_refusal_and_an_absent_server_say_so(served: Served, tmp_path: Path) -> None:
    served.status = 404
    with pytest.raises(ResattnError, match=r"could not be downloaded \(the server answered 404 Not Found\)"):
        fetch(served.source(), folder=tmp_path)
    nobody = served.source(url="http://127.0.0.1:9/archive.zip")
    with pytest.raises(ResattnError, match=r"^http://127\.0\.0\.1:9/archive\.zip could not be downloaded \("):
        fetch(nobody, folder=tmp_path)


def test_a_server_that_falls_silent(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise download.requests.Timeout

    monkeypatch.setattr(download.requests, "get", silent)
    with pytest.raises(ResattnError, match=r"\(the server did not answer in time\); 0\.0 MB are kept"):
        fetch(served.source(), folder=tmp_path)


def test_a_full_disk_is_named(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download._ResumingDownloader, "_receive", full)
    with pytest.raises(ResattnError) as caught:
        fetch(served.source(), folder=tmp_path)
    assert caught.value.what == f"could not write {tmp_path}: No space left on device"
    assert caught.value.mend.startswith("make room on the disk of ")


def test_prepare_downloads_reads_and_keeps_the_archive(
    served: Served, resattn_home: Path, archive: Callable[[], Path]
) -> None:
    served.content = archive().read_bytes()
    report = prepare_tiny_imagenet(download=True, source=served.source())
    assert report.images == {"train": 36, "val": 6, "test": 3}
    assert (resattn_home / "downloads" / "archive.zip").read_bytes() == served.content
    assert open_split("tiny-imagenet").source_sha256 == hashlib.sha256(served.content).hexdigest()
    prepare_tiny_imagenet(download=True, source=served.source())
    assert len(served.requests) == 1
