"""Fetching official archives: verified, resumed where a transfer broke, reused once whole."""

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from resattn import home, progress
from resattn.data.durable import disk_errors
from resattn.data.locking import locked
from resattn.errors import ResattnError

CONNECT_SECONDS, READ_SECONDS = 15, 60
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Source:
    """An archive on the network: its address, md5 and the name it is kept under.

    `size`, in bytes, is for the progress bar where the server does not say.
    """

    url: str
    md5: str
    file_name: str
    size: int = 0


def obtain(archive: Path | None, *, download: bool, source: Source, command: str) -> Path:
    """The archive to read: the one given, or the official one, downloaded unless it already is.

    `command` is the command line so far, for the mend. Raises ResattnError where neither or both are asked
    for.
    """
    if archive is not None and download:
        raise ResattnError("--archive and --download exclude each other", f"{command} --archive {archive}")
    if archive is not None:
        if not archive.exists():
            raise ResattnError(
                f"{archive}: there is no such file", f"give the archive's path, or {command} --download"
            )
        return archive
    if not download:
        raise ResattnError(
            f"say where {source.file_name} comes from", f"{command} --download, or {command} --archive FILE"
        )
    return fetch(source)


def fetch(source: Source, *, folder: Path | None = None) -> Path:
    """The path of `source` in `folder` (default: `home.cache_root()`), downloaded unless it is there.

    The file appears under its name only after its md5 was compared. A transfer that broke is kept as
    NAME.part and goes on there when called again, if the server still has the same file (ETag or
    Last-Modified) and serves ranges; otherwise it begins anew. Raises ResattnError: no connection, refused,
    cut off, wrong checksum, full disk.
    """
    folder = home.cache_root() if folder is None else folder
    pooch.get_logger().setLevel(logging.WARNING)
    by_hand = f"or fetch {source.url} by hand and give it with --archive FILE"
    try:
        with disk_errors(folder), locked(folder):
            return Path(
                pooch.retrieve(
                    source.url,
                    known_hash=f"md5:{source.md5}",
                    fname=source.file_name,
                    path=folder,
                    downloader=_ResumingDownloader(folder / f"{source.file_name}.part", source.size),
                )
            )
    except ValueError as error:  # pooch: the hash differs, and the file is gone
        raise ResattnError(
            f"{source.url}: what arrived has not the md5 {source.md5}; it was thrown away",
            f"run the same command again to fetch it anew, {by_hand}",
        ) from error


class _ResumingDownloader:
    """What pooch calls to fetch a file; a transfer that breaks leaves its part, and what it is a part of."""

    def __init__(self, part: Path, size: int) -> None:
        self.part, self.size = part, size
        self.version_path = part.with_name(f"{part.name}.json")

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:  # noqa: ARG002 - pooch's signature
        try:
            self._fetch(url)
        except requests.RequestException as error:
            kept = self.part.stat().st_size if self.part.exists() else 0
            raise ResattnError(
                f"{url} could not be downloaded ({_short(error)}); {kept / 1e6:.1f} MB are kept",
                "run the same command again: it goes on where it stopped; "
                "or fetch the file by hand and give it with --archive FILE",
            ) from error
        self.part.replace(output_file)
        self.version_path.unlink(missing_ok=True)

    def _fetch(self, url: str) -> None:
        done, version = self._partial(url)
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": version}
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if (
                done and response.status_code == 416
            ):  # nothing follows: it is all there, or no part of this file
                if response.headers.get("Content-Range") != f"bytes */{done}":
                    self.part.unlink()
                    self._fetch(url)
                return
            response.raise_for_status()
            if not _continues(response, done):
                done = 0
                self._remember(url, response)
            self._receive(response, done)

    def _partial(self, url: str) -> tuple[int, str]:
        """How many bytes are there already, and of which version; 0 where they cannot be gone on from."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(self.version_path.read_text(encoding="utf-8"))
            if known["url"] == url and isinstance(known["version"], str):
                return self.part.stat().st_size, known["version"]
        return 0, ""

    def _remember(self, url: str, response: requests.Response) -> None:
        self.part.unlink(missing_ok=True)
        etag = response.headers.get("ETag", "")
        # A weak ETag does not promise the same bytes.
        version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
        self.version_path.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")

    def _receive(self, response: requests.Response, done: int) -> None:
        total = done + int(response.headers.get("Content-Length") or self.size)
        received = done
        with (
            self.part.open("ab") as file,
            progress.bar(total=total, description=self.part.stem, unit="bytes") as advance,
        ):
            advance(done)
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                advance(len(chunk))
        if received < total and "Content-Length" in response.headers:
            raise requests.ConnectionError(f"the connection closed after {received:,} of {total:,} bytes")


def _continues(response: requests.Response, done: int) -> bool:
    """Whether the server sends the rest, from exactly where the partial file ends."""
    return (
        done > 0
        and response.status_code == 206
        and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
    )


def _short(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    return str(error).partition("\n")[0] or type(error).__name__
