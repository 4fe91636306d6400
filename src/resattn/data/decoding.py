"""Image files to RGB pixels, and what is bad about those that cannot be."""

import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import STRIPOFFSETS, TILEOFFSETS, ImageFileDirectory_v2

from resattn.hardware import usable_cores

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 89_478_485  # Pillow's own limit against decompression bombs
# A TIFF lists the pieces its pixels lie in, and Pillow takes the list at its word: a few hundred bytes of memory for
# each piece, though a megabyte may name a million, and each piece decoded, though all may be the whole image.
MAX_PIECES = 65_536
_MOST_TIMES_OVER = 8  # one piece a channel, where channels lie apart
# Pillow hands EPS to Ghostscript and WMF to Windows: an image folder from elsewhere must not run programs.
_REFUSED_FORMATS = ("EPS", "WMF")
_CHUNK = 32
_CHUNK_BYTES, _HELD_BYTES = 8 * 2**20, 256 * 2**20

# Photos of iPhones, which Pillow reads by this library only. Without it they are told of, and not passed over.
_HEIC_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
_HEIC_HELP = "pip install 'resattn[heic]'"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()

Item = TypeVar("Item")
Result = TypeVar("Result")


class BadImageError(Exception):
    """An image that cannot be used; the text says why, `mend` what to do, the caller knows where it is."""

    def __init__(self, what: str, mend: str = "give an image file that Pillow reads, whole") -> None:
        super().__init__(what)
        self.mend = mend


class TooManyPiecesError(BadImageError):
    """A TIFF of more strips or tiles than its pixels can need."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "save it anew, as a JPEG or PNG")


def too_many_pixels(width: int, height: int) -> BadImageError:
    """What is bad about an image of so many."""
    return BadImageError(
        f"has {width} x {height} pixels, over the limit of {MAX_PIXELS:,}", "make it smaller"
    )


def decode_rgb(
    data: bytes,
    *,
    formats: tuple[str, ...] | None = None,
    reduce_to: int | None = None,
    orientation: Literal["exif", "as stored"] = "exif",
) -> Image.Image:
    """Decode an image file of any kind Pillow reads into an 8-bit RGB image.

    The image is turned upright by its EXIF, or left as stored; grayscale, palette, CMYK and other colour
    spaces become RGB; transparent pixels are laid on white; 16 bits a channel keep the upper 8; of an
    animation the first frame is taken. `formats` limits what is accepted (Pillow's names); `reduce_to` allows
    a JPEG to be decoded at a smaller scale, at least twice that many pixels a side. Raises BadImageError: no
    image, cut short, over MAX_PIXELS, or float pixels (they have no stated range).
    """
    try:
        with open_image(data, formats) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise too_many_pixels(width, height)
            if reduce_to is not None:
                image.draft("RGB", (2 * reduce_to, 2 * reduce_to))
            image.load()
            if orientation == "exif":
                turn_upright(image)
            return to_rgb(image)
    except BadImageError:
        raise
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, struct.error ... on foreign bytes
        raise BadImageError(_reason(data, error)) from error


def open_image(data: bytes, formats: tuple[str, ...] | None = None) -> ImageFile:
    """What the head of an image file says; its pixels are not decoded.

    Raises TooManyPiecesError, and what Pillow raises.
    """
    named = _named_pieces(data)
    if named > MAX_PIECES:
        raise TooManyPiecesError(f"has {named:,} strips or tiles, over the limit of {MAX_PIECES:,}")
    image = Image.open(io.BytesIO(data), formats=_accepted(formats))
    if sum(map(_area, image.tile)) > _MOST_TIMES_OVER * image.width * image.height:
        image.close()
        raise TooManyPiecesError(f"has {len(image.tile):,} strips or tiles, one over the other")
    return image


def _area(piece: tuple[Any, ...]) -> int:
    """How many pixels a strip or tile covers; 0 where the format has no such thing."""
    left, upper, right, lower = piece[1] or (0, 0, 0, 0)
    return int((right - left) * (lower - upper))


def _named_pieces(data: bytes) -> int:
    """How many strips or tiles a TIFF says it has; 0 for what is none, or cannot be read."""
    head = data[:16] if data[2:3] == b"\x2b" else data[:8]
    try:
        directory = ImageFileDirectory_v2(head)
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        return sum(len(directory[tag]) for tag in (STRIPOFFSETS, TILEOFFSETS) if tag in directory)
    except Exception:  # SyntaxError, struct.error, TypeError ... : opening says what it is
        return 0


def turn_upright(image: Image.Image) -> None:
    """Apply the orientation in the image's EXIF, in place; EXIF that cannot be parsed says nothing."""
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB, as `decode_rgb` says; raises BadImageError for float pixels."""
    if image.mode == "F":
        why = "has floating-point pixels, whose range is not stated; save it with 8 or 16 bits"
        raise BadImageError(why, "save it anew")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.clip(np.asarray(image), 0, 65535)
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode != "P" and not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Scale the short side to `size` pixels and keep the centre square (antialiased, Lanczos)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an RGB image: uint8, H x W x 3."""
    return np.asarray(image, dtype=np.uint8)


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, with their dot and in lower case, of the formats that Pillow reads, and of those of iPhones."""
    known = (suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)
    return frozenset(known) | _HEIC_SUFFIXES


def readable_by_now(reason: str) -> bool:
    """Whether an image that could not be used for `reason`, once, can be since a library was installed."""
    return _HEIC_HELP in reason and "HEIF" in Image.OPEN


def read_file(path: Path) -> bytes:
    """The bytes of an image file; raises BadImageError for what cannot be read or is too large."""
    try:
        # Without O_NONBLOCK a named pipe in the folder would wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadImageError("is not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise BadImageError(f"has {status.st_size:,} bytes, over the limit of {MAX_FILE_BYTES:,}")
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from error


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    size: Callable[[Item], int] = lambda _: 0,
) -> Iterator[Result]:
    """Map `function` over `items` in a pool of threads; results come in order, few are held at a time.

    `items` is drawn from in the calling thread. `workers` defaults to the number of cores this process may
    use. Where items hold much memory, `size` says how many bytes one does: no more are drawn while those in
    work hold 256 MiB. What drawing raises is raised after the results of those drawn before.
    """
    workers = workers or usable_cores()
    source = iter(items)
    pool = ThreadPoolExecutor(workers)
    pending: deque[tuple[Future[list[Result]], int]] = deque()
    held = 0
    failure: Exception | None = None
    try:
        while True:
            while failure is None and len(pending) < 2 * workers and held < _HELD_BYTES:
                chunk, chunk_bytes, failure = _chunk(source, size)
                if not chunk:
                    break
                work = pool.submit(lambda chunk: [function(item) for item in chunk], chunk)
                pending.append((work, chunk_bytes))
                held += chunk_bytes
            if not pending:
                if failure is not None:
                    raise failure
                return
            work, chunk_bytes = pending.popleft()
            yield from work.result()
            held -= chunk_bytes
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _chunk(source: Iterator[Item], size: Callable[[Item], int]) -> tuple[list[Item], int, Exception | None]:
    """The next items, 32 at most and fewer where they hold more than 8 MiB; their bytes; what ended the drawing."""
    chunk: list[Item] = []
    chunk_bytes = 0
    try:
        for item in islice(source, _CHUNK):
            chunk.append(item)
            chunk_bytes += size(item)
            if chunk_bytes >= _CHUNK_BYTES:
                break
    except Exception as error:
        return chunk, chunk_bytes, error
    return chunk, chunk_bytes, None


def _accepted(formats: tuple[str, ...] | None) -> tuple[str, ...]:
    if formats is not None:
        return formats
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _REFUSED_FORMATS)


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "is empty"
    if isinstance(error, UnidentifiedImageError):
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS and "HEIF" not in Image.OPEN:
            return f"is a HEIC photo, which takes: {_HEIC_HELP}"
        return "is not an image that Pillow can read"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has more pixels than the limit of {MAX_PIXELS:,}"
    return f"is damaged or cut short ({error})"
