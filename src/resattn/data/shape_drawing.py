"""Drawing many small images of textured shapes at once, with NumPy.

Reproducible on every platform as far as floating point allows: the random numbers are PCG64's raw output,
whose stream NumPy guarantees, and pixels are made by operations that IEEE 754 defines exactly (+, -, *, /,
square root, comparisons); sines and cosines come from a table rounded to 6 digits. Coordinates are pixels,
x to the right and y down; pixel (i, j) covers i to i + 1 and j to j + 1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 64
VERSION = 1
_RANDOM_NUMBERS = 128
_GRID = 6
_ANGLES = 720
_TURN = [2 * math.pi * step / _ANGLES for step in range(_ANGLES)]
_COSINES = np.array([round(math.cos(angle), 6) for angle in _TURN], dtype=np.float32)
_SINES = np.array([round(math.sin(angle), 6) for angle in _TURN], dtype=np.float32)
_CENTRES = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)

Floats = NDArray[np.float32]
_Where = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


class _Plane(NamedTuple):
    """Pixels in a frame of each image's own: all of them (N x 64 x 64) or chosen ones (P)."""

    x: Floats
    y: Floats


class _Random:
    """Uniform random numbers for a batch of images, each image from a row of its own."""

    def __init__(self, generator: np.random.PCG64, images: int) -> None:
        raw = generator.random_raw(images * _RANDOM_NUMBERS).reshape(images, _RANDOM_NUMBERS)
        self._uniform: Floats = (raw >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
        self._used = 0

    def numbers(self, low: float, high: float, count: int) -> Floats:
        """N x count numbers from `low` to `high`."""
        taken = self._uniform[:, self._used : self._used + count]
        if taken.shape[1] < count:
            raise ValueError(f"more than {_RANDOM_NUMBERS} random numbers an image")
        self._used += count
        return np.float32(low) + taken * np.float32(high - low)

    def number(self, low: float, high: float) -> Floats:
        """One number an image, N x 1 x 1."""
        return self.numbers(low, high, 1)[:, :, None]

    def colour(self, low: float, high: float) -> Floats:
        """One RGB colour an image, N x 3."""
        return self.numbers(low, high, 3)

    def plane(self, x: Floats, y: Floats, *, turn: float = 0.5) -> _Plane:
        """The frame with its origin at (x, y), turned by up to `turn` of a full turn either way."""
        step = np.floor(self.number(-turn * _ANGLES, turn * _ANGLES)).astype(np.intp) % _ANGLES
        across, down = _CENTRES[None, None, :] - x, _CENTRES[None, :, None] - y
        cosine, sine = _COSINES[step], _SINES[step]
        return _Plane(across * cosine + down * sine, down * cosine - across * sine)


def draw(
    classes: Sequence[Sequence[str]], generator: np.random.PCG64
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw one image for each (shape, texture) of `classes`.

    Returns images, uint8 N x 64 x 64 x 3, RGB, and boxes, float32 N x 4: xyxy pixel edges (x1, y1 exclusive)
    of the pixels that the shape covers by half or more.
    """
    shapes = np.array([tuple(SHAPES).index(shape) for shape, _ in classes])
    textures = np.array([tuple(TEXTURES).index(texture) for _, texture in classes])
    random = _Random(generator, len(classes))
    canvas = _background(random)
    for _ in range(2):
        _paint_patch(canvas, random)
    for kind in (_bar, _circle, _bar):
        _paint_piece(canvas, random, kind, size=(2, 7))
    coverage = _paint_shape(canvas, shapes, textures, random)
    for kind in (_bar, _circle):
        _paint_piece(canvas, random, kind, size=(1, 3.5))
    _add_noise(canvas, generator)
    canvas *= 255
    canvas += np.float32(0.5)
    return np.clip(canvas, 0, 255).astype(np.uint8), _boxes(coverage)


def _circle(plane: _Plane, radius: Floats) -> Floats:
    return _distance(plane.x, plane.y) - radius * np.float32(0.95)


def _bar(plane: _Plane, half: Floats) -> Floats:
    return _largest(np.abs(plane.x) - half * np.float32(2.5), np.abs(plane.y) - half)


def _square(plane: _Plane, radius: Floats) -> Floats:
    return _largest(np.abs(plane.x), np.abs(plane.y)) - radius * np.float32(0.85)


def _cross(plane: _Plane, radius: Floats) -> Floats:
    across, down = np.abs(plane.x), np.abs(plane.y)
    length, width = radius * np.float32(1.1), radius * np.float32(0.42)
    bar, other = _largest(across - length, down - width), _largest(across - width, down - length)
    return -_largest(-bar, -other)


def _triangle(plane: _Plane, radius: Floats) -> Floats:
    return _edges(plane, 3)[0] - radius * np.float32(0.62)


def _star(plane: _Plane, radius: Floats) -> Floats:
    # A pentagram: the points beyond at most one of the five lines through its tips.
    return _edges(plane, 5)[1] - radius * np.float32(0.42)


def _edges(plane: _Plane, count: int) -> tuple[Floats, Floats]:
    """The largest and second largest distance along the normals of a polygon with `count` sides."""
    largest = second = np.full_like(plane.x, -np.inf)
    for side in range(count):
        step = side * _ANGLES // count + _ANGLES // 4
        distance = plane.x * _COSINES[step % _ANGLES] + plane.y * _SINES[step % _ANGLES]
        second = _largest(second, np.minimum(largest, distance))
        largest = _largest(largest, distance)
    return largest, second


def _stripes(plane: _Plane, period: Floats) -> Floats:
    return _wave(plane.x, period)


def _checks(plane: _Plane, period: Floats) -> Floats:
    across, down = _wave(plane.x, period), _wave(plane.y, period)
    return across + down - 2 * across * down


def _dots(plane: _Plane, period: Floats) -> Floats:
    across, down = _within_cell(plane.x, period), _within_cell(plane.y, period)
    return _soft(_distance(across, down) - period * np.float32(0.33))


def _rings(plane: _Plane, period: Floats) -> Floats:
    return _wave(_distance(plane.x, plane.y), period)


def _within_cell(along: Floats, period: Floats) -> Floats:
    """The distance from the middle of the cell, cells of `period` following each other."""
    cell = along / period
    middle: Floats = (cell - np.floor(cell) - np.float32(0.5)) * period
    return middle


def _distance(across: Floats, down: Floats) -> Floats:
    distance: Floats = np.sqrt(across * across + down * down)
    return distance


def _largest(first: Floats, second: Floats) -> Floats:
    largest: Floats = np.maximum(first, second)
    return largest


def _wave(along: Floats, period: Floats) -> Floats:
    """1 and 0 in turn, half a period each, with edges one pixel wide."""
    return _soft(np.abs(_within_cell(along, period)) - period * np.float32(0.25))


Drawing = Callable[[_Plane, Floats], Floats]
SHAPES: Mapping[str, Drawing] = {
    "circle": _circle,
    "cross": _cross,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
TEXTURES: Mapping[str, Drawing] = {"checks": _checks, "dots": _dots, "rings": _rings, "stripes": _stripes}


def _background(random: _Random) -> Floats:
    """Two colours in soft clouds: N x 64 x 64 x 3."""
    clouds = random.numbers(0, 1, _GRID * _GRID).reshape(-1, _GRID, _GRID)
    place = _CENTRES * np.float32((_GRID - 1) / SIDE)
    cell = place.astype(np.intp)
    share = place - cell.astype(np.float32)
    rows = clouds[:, cell] * (1 - share)[None, :, None] + clouds[:, cell + 1] * share[None, :, None]
    smooth = rows[:, :, cell] * (1 - share) + rows[:, :, cell + 1] * share
    first, second = random.colour(0.15, 0.85), random.colour(0.15, 0.85)
    canvas = np.empty((*smooth.shape, 3), dtype=np.float32)
    for channel in range(3):
        low, high = first[:, channel, None, None], second[:, channel, None, None]
        canvas[..., channel] = low + (high - low) * smooth
    return canvas


def _paint_piece(canvas: Floats, random: _Random, kind: Drawing, *, size: tuple[float, float]) -> None:
    """Clutter of one colour: a disc, or a bar of any direction."""
    plane = random.plane(random.number(0, SIDE), random.number(0, SIDE))
    where, coverage = _pixels(_covered(kind, plane, random.number(*size)))
    _blend(canvas, where, coverage, random.colour(0, 1)[where[0]])


def _paint_patch(canvas: Floats, random: _Random) -> None:
    """Clutter with a texture of the classes, in a round patch that is smaller than any of their shapes."""
    plane = random.plane(random.number(0, SIDE), random.number(0, SIDE))
    inside = _covered(_circle, plane, random.number(4, 7))
    textures = random.numbers(0, len(TEXTURES), 1)[:, 0].astype(np.intp)
    _paint_texture(canvas, textures, inside, plane, random)


def _paint_shape(
    canvas: Floats, shapes: NDArray[np.intp], textures: NDArray[np.intp], random: _Random
) -> Floats:
    """Paint the shape that the class is about; returns how much of each pixel it covers, N x 64 x 64."""
    radius = random.number(12, 19)
    margin = radius * np.float32(1.4)
    x = margin + (SIDE - 2 * margin) * random.number(0, 1)
    y = margin + (SIDE - 2 * margin) * random.number(0, 1)
    plane = random.plane(x, y, turn=0.09)
    inside = np.empty_like(plane.x)
    for number, shape in enumerate(SHAPES.values()):
        rows = np.flatnonzero(shapes == number)
        inside[rows] = _covered(shape, _Plane(plane.x[rows], plane.y[rows]), radius[rows])
    grain = random.plane(x + random.number(-3, 3), y + random.number(-3, 3))
    _paint_texture(canvas, textures, inside, grain, random)
    return inside


def _paint_texture(
    canvas: Floats, textures: NDArray[np.intp], inside: Floats, plane: _Plane, random: _Random
) -> None:
    """Fill `inside` with each image's texture, in a dark and a bright colour."""
    where, coverage = _pixels(inside)
    image = where[0]
    period, texture = random.number(5.5, 8)[image, 0, 0], textures[image]
    bright = np.empty_like(coverage)
    for number, drawing in enumerate(TEXTURES.values()):
        chosen = np.flatnonzero(texture == number)
        here = (where[0][chosen], where[1][chosen], where[2][chosen])
        bright[chosen] = drawing(_Plane(plane.x[here], plane.y[here]), period[chosen])
    low, high = random.colour(0, 0.4), random.colour(0.6, 1)
    _blend(canvas, where, coverage, low[image] + (high - low)[image] * bright[:, None])


def _covered(kind: Drawing, plane: _Plane, size: Floats) -> Floats:
    """How much of each pixel lies inside a shape (0 to 1), its edge being one pixel wide."""
    return _soft(kind(plane, size))


def _soft(distance: Floats) -> Floats:
    coverage: Floats = np.clip(np.float32(0.5) - distance, 0, 1)
    return coverage


def _pixels(inside: Floats) -> tuple[_Where, Floats]:
    """The pixels that are touched at all (image, row, column), and by how much: most of a canvas is not."""
    image, row, column = np.nonzero(inside)
    return (image, row, column), inside[image, row, column]


def _blend(canvas: Floats, where: _Where, coverage: Floats, colour: Floats) -> None:
    """Lay colours, P x 3, over P pixels."""
    under = canvas[where]
    canvas[where] = under + (colour - under) * coverage[:, None]


def _add_noise(canvas: Floats, generator: np.random.PCG64) -> None:
    """Independent noise of up to 6 % for every pixel and channel."""
    raw = generator.random_raw(canvas.size // 8).astype("<u8").view(np.uint8).reshape(canvas.shape)
    noise = raw.astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(0.12 / 255)
    canvas += noise


def _boxes(coverage: Floats) -> Floats:
    mask = coverage >= np.float32(0.5)
    columns: NDArray[np.bool_] = np.any(mask, axis=1)
    rows: NDArray[np.bool_] = np.any(mask, axis=2)
    x0, y0 = columns.argmax(axis=1), rows.argmax(axis=1)
    x1, y1 = SIDE - columns[:, ::-1].argmax(axis=1), SIDE - rows[:, ::-1].argmax(axis=1)
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float32)
