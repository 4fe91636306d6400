"""Bodies of requests to pixels: read within limits of size and time, taken apart, decoded in a pool of threads."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from typing import TypeVar

from fastapi import Request
from PIL import Image, UnidentifiedImageError
from starlette.requests import ClientDisconnect

from resattn.data.decoding import (
    BadImageError,
    TooManyPiecesError,
    decode_rgb,
    fit_square,
    open_image,
    to_array,
)
from resattn.hardware import usable_cores
from resattn.serving.limits import Limits
from resattn.serving.multipart import Upload, boundary_of, files_of
from resattn.serving.refusals import Refusal
from resattn.serving.runtime import Pixels

# What cameras, browsers and scanners write. Pillow reads dozens more, and every decoder is a door.
_COMMON = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
Image.init()
FORMATS = tuple(name for name in _COMMON if name in Image.OPEN)  # Pillow may be built without some
_SEND = f"send a photograph as {', '.join(FORMATS)}"
_HOW = "send the file itself with `Content-Type: image/jpeg`, or a form: curl -F image=@photo.jpg"

# A progressive JPEG of few bytes may ask for its pixels to be gone over a million times. Encoders write about ten
# scans, and libtiff, which has the same limit for the JPEGs inside its files, takes so many.
MOST_SCANS = 100
# The head of a scan as libjpeg wants it, its length fitting its components: without these, a film behind a photograph
# would have hundreds. Where 0xFF is a value, encoders put a 0 behind it.
_SCAN = re.compile(rb"\xff\xda\x00[\x06\x08\x0a\x0c\x0e][\x00-\x04]")

Result = TypeVar("Result")


class Uploads:
    """Takes requests in: at most `limits.held_bytes` of bodies at a time.

    Decoding has as many threads as this process may use cores, `size` is the side of the square the network sees.
    """

    def __init__(self, limits: Limits, *, size: int) -> None:
        self._limits = limits
        self._size = size
        self._held = 0
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="resattn-decode")

    @asynccontextmanager
    async def files(self, request: Request, *, field: str) -> AsyncIterator[list[Upload]]:
        """The image files of a request: its whole body, or the files of a form in `field`.

        Their bytes count as held until the block ends. Raises Refusal 408, 413, 415 and 422.
        """
        kind = request.headers.get("content-type", "application/octet-stream")
        boundary = boundary_of(kind)
        if boundary is None and not kind.lower().startswith(("image/", "application/octet-stream")):
            raise Refusal(415, f"a body of the type {kind[:100]} is no image", _HOW)
        body = bytearray()
        held = 0
        try:
            await self._read(request, body)
            held = len(body)

            def taken() -> bytes:
                """The body as bytes, which is then held once and not twice."""
                whole = bytes(body)
                body.clear()
                return whole

            if boundary is None:
                yield [Upload(None, taken())]
            else:
                most = self._limits.images
                # Not in the pool: nobody's time is measured yet, and others' slow images may stand before it there.
                yield await asyncio.to_thread(lambda: files_of(taken(), boundary, field=field, most=most))
        finally:
            self._held -= held or len(body)

    async def pixels(self, upload: Upload) -> Pixels:
        """What the network sees of an image: upright, short side scaled, centre square, uint8 size x size x 3.

        Raises Refusal 413 for too many pixels, scans or tiles, 415 for what is no image, 422 for one that is damaged.
        """
        return await self.in_pool(lambda: decode(upload.data, self._size, pixels=self._limits.pixels))

    async def in_pool(self, work: Callable[[], Result]) -> Result:
        """Run `work` in a thread for decoding; one that has not begun is dropped where nobody waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """End the threads once they are done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _read(self, request: Request, body: bytearray) -> None:
        most = self._limits.body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > most:
                        raise _too_large(most)
                    if self._held + len(chunk) > self._limits.held_bytes:
                        raise Refusal(
                            429, "too many uploads at once", "send it again in a second", retry_after=1
                        )
                    body += chunk
                    self._held += len(chunk)
        except TimeoutError as error:
            raise Refusal(
                408,
                f"the body did not arrive within {self._limits.upload_seconds:g} s",
                "send a smaller image, or over a faster connection",
                headers={"Connection": "close"},
            ) from error
        except ClientDisconnect as error:
            raise Refusal(400, "the client went away before its image had arrived") from error


def decode(data: bytes, size: int, *, pixels: int) -> Pixels:
    """The square of `size` pixels a side that the network sees of an image file, uint8 size x size x 3.

    Raises Refusal: 413 over `pixels` (width times height), for a JPEG of more than 100 scans and a TIFF of more strips
    or tiles than its pixels can need, 415 for what is no image, 422 for one that is damaged.
    """
    if not data:
        raise Refusal(422, "the image is empty: it has no bytes", _SEND)
    try:
        # Reads the head of the file only.
        with open_image(data, FORMATS) as image:
            width, height = image.size
    except TooManyPiecesError as error:
        raise Refusal(413, f"the image {error}", error.mend) from error
    except UnidentifiedImageError as error:
        raise Refusal(415, "the file is no image that the server can read", _SEND) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels("more", pixels) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ...
        raise _damaged(error) from error
    if width * height > pixels:
        raise _too_many_pixels(f"{width} x {height}", pixels)
    if _has_too_many_scans(data):
        raise Refusal(
            413,
            f"the image has more than {MOST_SCANS} scans",
            "save it anew, as a JPEG that is not progressive",
        )
    try:
        return to_array(fit_square(decode_rgb(data, formats=FORMATS, reduce_to=size), size))
    except BadImageError as error:
        raise Refusal(422, f"the image {error}", _SEND) from error
    except Exception as error:
        raise _damaged(error) from error


def _has_too_many_scans(data: bytes) -> bool:
    is_jpeg = data.startswith(b"\xff\xd8\xff")
    return is_jpeg and next(islice(_SCAN.finditer(data), MOST_SCANS, None), None) is not None


def _damaged(error: Exception) -> Refusal:
    return Refusal(422, f"the image is damaged or cut short ({error})", _SEND)


def _too_large(most: int) -> Refusal:
    return Refusal(
        413, f"the body is larger than {most / 2**20:g} MiB", "send a smaller image, or fewer at a time"
    )


def _too_many_pixels(size: str, most: int) -> Refusal:
    return Refusal(
        413, f"the image has {size} pixels, and {most:,} are the limit", "make it smaller before you send it"
    )
