"""Image files of every kind to RGB, and the words for those that are none."""

import io
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from resattn.data import decoding
from resattn.data.decoding import BadImageError, decode_rgb, fit_square, in_order, read_file, to_array


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(dtype: type[np.generic], top: int) -> np.ndarray:
    return np.linspace(0, top, 64 * 64).reshape(64, 64).astype(dtype)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("YCbCr", "JPEG"),
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("1", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGB", "BMP"),
        ("CMYK", "TIFF"),
        ("LAB", "TIFF"),
        ("L", "PPM"),
        ("RGB", "WEBP"),
    ],
)
def test_every_colour_mode_becomes_what_pillow_converts_it_to(samples, mode: str, kind: str) -> None:
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    data = file_of(samples.pixels(1).convert(mode), kind)
    array = to_array(decode_rgb(data))
    assert array.shape == (64, 64, 3)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(array, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_their_upper_eight(kind: str) -> None:
    values = gradient(np.uint16, 65535)
    array = to_array(decode_rgb(file_of(Image.fromarray(values), kind)))
    assert np.array_equal(array, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_transparent_pixels_are_white() -> None:
    half = np.zeros((2, 2, 4), dtype=np.uint8)
    half[..., 0], half[0, :, 3] = 200, 255
    array = to_array(decode_rgb(file_of(Image.fromarray(half))))
    assert array[0].tolist() == [[200, 0, 0]] * 2
    assert array[1].tolist() == [[255, 255, 255]] * 2
    palette = Image.fromarray(half[..., 0]).convert("P")
    array = to_array(decode_rgb(file_of(palette, "GIF", transparency=int(palette.getpixel((0, 0))))))
    assert array.min() == 255
    gray = Image.merge("LA", [Image.new("L", (2, 2), 9), Image.new("L", (2, 2), 0)])
    assert to_array(decode_rgb(file_of(gray))).min() == 255


def test_the_first_frame_of_an_animation_is_taken(samples) -> None:
    frames = [samples.pixels(seed).convert("P") for seed in range(3)]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(to_array(decode_rgb(data)), np.asarray(frames[0].convert("RGB")))


def test_exif_turns_the_image_upright(samples) -> None:
    image = samples.pixels(1).crop((0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    data = file_of(image, exif=exif)
    assert np.array_equal(to_array(decode_rgb(data)), np.rot90(np.asarray(image), -1))
    assert np.array_equal(to_array(decode_rgb(data, orientation="as stored")), np.asarray(image))


def test_exif_that_cannot_be_parsed_is_no_reason_to_refuse_an_image(samples) -> None:
    data = file_of(samples.pixels(1), "JPEG", exif=b"Exif\0\0garbage")
    assert decode_rgb(data).size == (64, 64)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _: b"", "is empty"),
        (lambda _: b"just text", "is not an image that Pillow can read"),
        (lambda data: data[: len(data) // 2], "is damaged or cut short"),
        (lambda data: data[:30], "is"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_what_is_no_whole_image_says_why(
    samples, kind: str, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    with pytest.raises(BadImageError, match=rf"^{reason}"):
        decode_rgb(spoil(samples.encode(1, kind=kind)))


def test_float_pixels_are_refused_because_their_range_is_unknown() -> None:
    with pytest.raises(BadImageError, match=r"^has floating-point pixels"):
        decode_rgb(file_of(Image.fromarray(gradient(np.float32, 1)), "TIFF"))


@pytest.mark.parametrize("factor", [1.5, 4])
def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    limit = int(64 * 64 / factor)
    monkeypatch.setattr(decoding, "MAX_PIXELS", limit)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImageError, match=rf"^has more pixels than the limit of {limit:,}$"):
        decode_rgb(file_of(Image.new("RGB", (64, 64))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(BadImageError, match=rf"^has 64 x 64 pixels, over the limit of {limit:,}$"):
        decode_rgb(file_of(Image.new("RGB", (64, 64))))


def test_photos_of_iphones(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the left becomes the top
    colours = Image.new("RGB", (128, 64), "red")
    colours.paste("blue", (64, 0, 128, 64))
    pillow_heif.from_pillow(colours).save(file, exif=exif.tobytes())
    image = decode_rgb(file.getvalue())
    assert (image.mode, image.size) == ("RGB", (64, 128))
    assert np.allclose(to_array(image)[8:56].mean((0, 1)), (255, 0, 0), atol=8)
    assert np.allclose(to_array(image)[72:120].mean((0, 1)), (0, 0, 255), atol=8)

    without = {name: reader for name, reader in Image.OPEN.items() if name != "HEIF"}
    monkeypatch.setattr(Image, "OPEN", without)
    with pytest.raises(BadImageError, match=r"is a HEIC photo, which takes: pip install 'resattn\[heic\]'"):
        decode_rgb(file.getvalue())


def tiled_tiff(side: int, tile: int, tiles: int) -> bytes:
    """A gray TIFF of `side` x `side` pixels whose tiles, so many, all lie at one place; a byte each says where."""
    entries = (
        (256, 3, side),
        (257, 3, side),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (322, 3, tile),
        (323, 3, tile),
    )
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    head = b"II*\0" + struct.pack("<IH", 8, len(entries) + 1)
    head += b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries)
    head += struct.pack("<HHII", 324, 1, tiles, start) + bytes(4)
    return head + b"\x08" * tiles + bytes(tile * tile)


def test_a_tiff_is_not_decoded_piece_by_piece_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_rgb(tiled_tiff(32, 16, 4)).size == (32, 32)
    opened: list[object] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: opened.append(args) or real(*args, **options))
    with pytest.raises(
        BadImageError, match=r"^has 100,000 strips or tiles, over the limit of 65,536"
    ) as refused:
        decode_rgb(tiled_tiff(2, 16, 100_000))
    assert not opened  # which would have made an object of each
    assert "save it anew" in refused.value.mend
    with pytest.raises(BadImageError, match=r"^has 60,000 strips or tiles, one over the other"):
        decode_rgb(tiled_tiff(32, 16, 60_000))


@pytest.mark.parametrize(
    "options", [{}, {"big_tiff": True}, {"tiffinfo": {278: 1}}, {"compression": "tiff_lzw"}]
)
def test_a_tiff_of_many_strips_is_decoded(options: dict[str, Any]) -> None:
    image = Image.effect_noise((60, 300), 50).convert("RGB")
    assert np.array_equal(to_array(decode_rgb(file_of(image, "TIFF", **options))), np.asarray(image))


def test_programs_are_not_run_for_postscript() -> None:
    with pytest.raises(BadImageError, match=r"^is not an image that Pillow can read$"):
        decode_rgb(file_of(Image.new("RGB", (8, 8)), "EPS"))


@pytest.mark.parametrize(
    ("width", "height"), [(200, 100), (100, 200), (101, 37), (30, 500), (20, 20), (1, 1)]
)
def test_fitting_keeps_the_centre_square(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), "red")
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste("blue", (left, top, left + side, top + side))
    array = to_array(fit_square(image, 32))
    assert array.shape == (32, 32, 3)
    assert array[4:-4, 4:-4].reshape(-1, 3).tolist() == [[0, 0, 255]] * 24 * 24


def test_an_image_that_fits_already_keeps_its_pixels(samples) -> None:
    image = samples.pixels(1, side=65)
    cropped = image.crop((0, 0, 65, 64))
    assert np.array_equal(to_array(fit_square(cropped, 64)), to_array(image)[:64, :64])


def test_shrinking_is_antialiased() -> None:
    fine = np.indices((512, 512)).sum(axis=0) % 2 * 255
    image = Image.fromarray(fine.astype(np.uint8)).convert("RGB")
    assert np.abs(to_array(fit_square(image, 32)).astype(int) - 127).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_may_be_decoded_at_a_smaller_scale_without_looking_different(samples, mode: str) -> None:
    data = samples.encode(3, side=1024, mode=mode)
    whole = fit_square(decode_rgb(data), 64)
    reduced_image = decode_rgb(data, reduce_to=64)
    assert mode == "CMYK" or reduced_image.size == (128, 128)
    difference = np.abs(to_array(whole).astype(int) - to_array(fit_square(reduced_image, 64)))
    assert difference.mean() < 1.5


def test_files_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadImageError, match=r"^cannot be read \(No such file or directory\)$"):
        read_file(tmp_path / "absent.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImageError, match=r"^is not a regular file$"):
        read_file(tmp_path / "pipe.png")
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 10)
    (tmp_path / "large.png").write_bytes(bytes(11))
    with pytest.raises(BadImageError, match=r"^has 11 bytes, over the limit of 10$"):
        read_file(tmp_path / "large.png")


def test_order_is_kept_and_little_is_read_ahead() -> None:
    taken = 0

    def items():
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number

    results = in_order(lambda number: number * 2, items(), workers=3)
    assert [next(results) for _ in range(100)] == [2 * number for number in range(100)]
    assert taken < 1_000
    results.close()


def test_less_is_read_ahead_of_what_holds_much_memory() -> None:
    taken = 0

    def items():
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number

    results = in_order(lambda number: number, items(), workers=8, size=lambda _: 100 * 2**20)
    assert next(results) == 0
    assert taken == 3
    assert list(results) == list(range(1, 200))


def test_threads_end_with_the_work_even_after_an_error() -> None:
    before = threading.active_count()

    def fail(number: int) -> int:
        if number == 50:
            raise RuntimeError("odd")
        return number

    with pytest.raises(RuntimeError, match="odd"):
        list(in_order(fail, range(10_000), workers=4))
    assert threading.active_count() == before


@pytest.mark.parametrize("workers", [1, 8])
def test_what_was_drawn_before_a_failure_comes_before_it(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from range(70)
        raise ValueError

    done = []
    with pytest.raises(ValueError):
        done.extend(in_order(lambda item: item, items(), workers=workers))
    assert done == list(range(70))
