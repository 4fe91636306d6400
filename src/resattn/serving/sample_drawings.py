"""The pictures that the page offers to try: drawn here, by this file, and by nobody else.

    python -m resattn.serving.sample_drawings

writes them to `web/samples`. Coordinates are shares of the side, x to the right and y down.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from resattn.serving.web_page import FOLDER

SIDE = 256
_FINE = 4 * SIDE  # drawn larger and scaled down, so that edges are smooth
Colour = tuple[int, int, int]
Point = tuple[float, float]


class _Canvas:
    """A square picture that shapes are laid on, each with light from the upper left where it has a volume."""

    def __init__(self, top: Colour, bottom: Colour) -> None:
        column = Image.new("RGB", (1, 256))
        for row in range(256):
            column.putpixel((0, row), _mix(top, bottom, row / 255))
        self.image = column.resize((_FINE, _FINE), Image.Resampling.BICUBIC)
        self._scale, self._turn = 1.0, 0.0

    def turn(self, degrees: float, *, scale: float) -> None:
        """Turn what is drawn from now on clockwise around the middle, and make it smaller."""
        self._scale, self._turn = scale, math.radians(degrees)

    def polygon(self, points: Sequence[Point], colour: Colour, *, volume: float = 0.0) -> None:
        """A filled polygon; `volume` 0 is flat, 1 as round as a ball."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self._pixels(points), fill=255)
        self._lay(mask, colour, volume)

    def ellipse(
        self, centre: Point, radii: Point, colour: Colour, *, turn: float = 0.0, volume: float = 0.0
    ) -> None:
        """A filled ellipse, turned by `turn` degrees clockwise."""
        self.polygon(_ellipse(centre, radii, turn), colour, volume=volume)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A line with round ends."""
        draw, thick = ImageDraw.Draw(self.image), width * _FINE * self._scale
        scaled = self._pixels(points)
        draw.line(scaled, fill=colour, width=round(thick), joint="curve")
        for x, y in scaled:
            draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)

    def shadow(self, centre: Point, radii: Point, *, strength: float = 0.45) -> None:
        """A soft dark spot on the ground."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self._pixels(_ellipse(centre, radii, 0)), fill=round(255 * strength))
        self.image.paste((20, 16, 24), mask=mask.filter(ImageFilter.GaussianBlur(_FINE * 0.02)))

    def finished(self) -> Image.Image:
        """The picture, `SIDE` pixels a side."""
        return self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        cosine, sine = (self._scale * part(self._turn) for part in (math.cos, math.sin))
        return [
            (
                _FINE * (0.5 + (x - 0.5) * cosine - (y - 0.5) * sine),
                _FINE * (0.5 + (x - 0.5) * sine + (y - 0.5) * cosine),
            )
            for x, y in points
        ]

    def _lay(self, mask: Image.Image, colour: Colour, volume: float) -> None:
        self.image.paste(colour, mask=mask)
        box = mask.getbbox()
        if not volume or box is None:
            return
        reach = volume * min(box[2] - box[0], box[3] - box[1]) / 6
        soft = mask.filter(ImageFilter.GaussianBlur(reach))
        for shift, tone, strength in ((-1, (40, 16, 8), 0.75), (1, (255, 252, 235), 0.5)):
            # Where a copy that lies towards or away from the light does not reach, the form turns away from it.
            moved = ImageChops.offset(soft, round(shift * reach), round(shift * reach))
            edge = ImageChops.multiply(mask, ImageChops.invert(moved)).point(lambda v, s=strength: v * s)
            self.image.paste(tone, mask=edge)


def draw_samples() -> dict[str, Image.Image]:
    """Every picture by its name, RGB, 256 x 256; the same each time, to within rounding of Pillow's versions."""
    return {name: drawing().finished() for name, drawing in DRAWINGS.items()}


def _lemon() -> _Canvas:
    canvas = _Canvas((116, 138, 150), (214, 205, 190))
    canvas.shadow((0.53, 0.76), (0.34, 0.07))
    canvas.ellipse((0.2, 0.57), (0.08, 0.05), (224, 190, 30), turn=-20, volume=0.6)
    canvas.ellipse((0.82, 0.43), (0.08, 0.055), (232, 200, 40), turn=-20, volume=0.6)
    canvas.ellipse((0.51, 0.5), (0.32, 0.245), (246, 214, 44), turn=-14, volume=1)
    canvas.ellipse((0.4, 0.38), (0.1, 0.045), (255, 243, 170), turn=-24)
    canvas.polygon([(0.83, 0.4), (0.8, 0.24), (0.66, 0.14), (0.7, 0.3)], (74, 128, 48), volume=0.5)
    canvas.line([(0.67, 0.16), (0.82, 0.38)], (120, 168, 84), 0.008)
    return canvas


def _ladybird() -> _Canvas:
    canvas = _Canvas((126, 170, 82), (52, 104, 44))
    for place in (-0.2, 0.05, 0.3, 0.55, 0.8):
        canvas.line([(0.0, place + 0.3), (1.0, place)], (104, 150, 70), 0.012)
    canvas.turn(38, scale=0.66)
    canvas.shadow((0.53, 0.63), (0.33, 0.24))
    for side in (-1, 1):
        for x, y in ((0.3, 0.4), (0.42, 0.46), (0.56, 0.43)):
            canvas.line([(x + 0.05, 0.52 + side * 0.2), (x, 0.52 + side * y * 0.75)], (20, 18, 20), 0.018)
    canvas.ellipse((0.23, 0.52), (0.11, 0.14), (24, 22, 24), volume=0.7)
    for y in (0.44, 0.6):
        canvas.ellipse((0.2, y), (0.03, 0.03), (240, 236, 226))
        canvas.line([(0.15, y), (0.07, 0.52 + (y - 0.52) * 2.2)], (20, 18, 20), 0.012)
    canvas.ellipse((0.53, 0.52), (0.31, 0.26), (208, 34, 26), volume=1)
    canvas.line([(0.24, 0.52), (0.835, 0.52)], (36, 12, 12), 0.014)
    for x, y, radius in ((0.38, 0.4, 0.05), (0.56, 0.36, 0.055), (0.7, 0.43, 0.045)):
        canvas.ellipse((x, y), (radius, radius), (26, 16, 16))
        canvas.ellipse((x, 1.04 - y), (radius, radius), (26, 16, 16))
    canvas.ellipse((0.46, 0.33), (0.06, 0.022), (255, 190, 176), turn=-16)
    return canvas


def _school_bus() -> _Canvas:
    canvas = _Canvas((142, 188, 226), (222, 234, 238))
    canvas.polygon(
        [(0, 0.55), (0.2, 0.42), (0.45, 0.52), (0.7, 0.4), (1, 0.54), (1, 0.8), (0, 0.8)], (92, 132, 84)
    )
    canvas.polygon([(0, 0.72), (1, 0.72), (1, 1), (0, 1)], (96, 96, 100))
    canvas.line([(0, 0.93), (1, 0.93)], (226, 218, 190), 0.014)
    canvas.shadow((0.5, 0.83), (0.44, 0.04), strength=0.7)
    body = [(0.06, 0.3), (0.1, 0.25), (0.76, 0.25), (0.8, 0.5), (0.94, 0.53), (0.96, 0.78), (0.06, 0.78)]
    canvas.polygon(body, (246, 178, 24), volume=0.25)
    for left in (0.11, 0.235, 0.36, 0.485):
        canvas.polygon([(left, 0.33), (left + 0.1, 0.33), (left + 0.1, 0.47), (left, 0.47)], (52, 66, 82))
        canvas.line([(left + 0.02, 0.45), (left + 0.07, 0.35)], (128, 150, 168), 0.008)
    canvas.polygon([(0.64, 0.33), (0.74, 0.33), (0.77, 0.72), (0.64, 0.72)], (60, 74, 90))
    for y in (0.55, 0.63):
        canvas.line([(0.07, y), (0.6, y)], (30, 26, 22), 0.014)
    canvas.line([(0.06, 0.765), (0.96, 0.765)], (34, 30, 28), 0.028)
    canvas.ellipse((0.925, 0.62), (0.02, 0.03), (255, 248, 214))
    for x in (0.25, 0.8):
        canvas.ellipse((x, 0.78), (0.085, 0.085), (28, 28, 30), volume=0.4)
        canvas.ellipse((x, 0.78), (0.04, 0.04), (190, 192, 196), volume=0.6)
    return canvas


def _lighthouse() -> _Canvas:
    canvas = _Canvas((84, 140, 200), (236, 226, 210))
    canvas.ellipse((0.2, 0.2), (0.16, 0.045), (246, 246, 244))
    canvas.ellipse((0.82, 0.3), (0.18, 0.04), (240, 240, 238))
    canvas.polygon([(0, 0.74), (1, 0.74), (1, 1), (0, 1)], (44, 98, 132))
    for y, x in ((0.79, 0.1), (0.84, 0.72), (0.9, 0.2), (0.95, 0.62)):
        canvas.line([(x, y), (x + 0.2, y)], (112, 160, 184), 0.008)
    rock = [(0.16, 1), (0.26, 0.84), (0.38, 0.78), (0.62, 0.77), (0.74, 0.85), (0.88, 1)]
    canvas.polygon(rock, (92, 82, 74), volume=0.4)
    low, high = 0.8, 0.28
    for band in range(6):
        bottom, top = low + (high - low) * band / 6, low + (high - low) * (band + 1) / 6
        wide, narrow = 0.125 - 0.008 * band, 0.117 - 0.008 * band
        points = [(0.5 - wide, bottom), (0.5 + wide, bottom), (0.5 + narrow, top), (0.5 - narrow, top)]
        canvas.polygon(points, (200, 44, 40) if band % 2 else (244, 242, 236))
    canvas.polygon([(0.52, low), (0.625, low), (0.577, high), (0.52, high)], (170, 150, 150))
    for band in (1, 3, 5):
        bottom, top = low + (high - low) * band / 6, low + (high - low) * (band + 1) / 6
        wide = 0.125 - 0.008 * band
        points = [(0.52, bottom), (0.5 + wide, bottom), (0.492 + wide, top), (0.52, top)]
        canvas.polygon(points, (150, 26, 30))
    canvas.polygon([(0.4, 0.28), (0.6, 0.28), (0.6, 0.255), (0.4, 0.255)], (40, 42, 48))
    canvas.polygon([(0.44, 0.255), (0.56, 0.255), (0.56, 0.165), (0.44, 0.165)], (255, 232, 150))
    for x in (0.44, 0.5, 0.56):
        canvas.line([(x, 0.17), (x, 0.255)], (40, 42, 48), 0.01)
    canvas.polygon([(0.42, 0.17), (0.58, 0.17), (0.5, 0.07)], (176, 34, 34), volume=0.4)
    return canvas


def _mushroom() -> _Canvas:
    canvas = _Canvas((86, 122, 62), (44, 66, 30))
    for number in range(60):
        x, y = (number * 0.5698) % 1, 0.66 + 0.34 * ((number * 0.7549) % 1)
        tone = (70, 116, 44) if number % 2 else (104, 146, 62)
        canvas.line([(x, y), (x + 0.03 * math.sin(number), y - 0.14)], tone, 0.009)
    canvas.shadow((0.52, 0.88), (0.24, 0.04))
    stem = [
        (0.42, 0.48),
        (0.58, 0.48),
        (0.62, 0.8),
        (0.65, 0.87),
        (0.57, 0.9),
        (0.43, 0.9),
        (0.36, 0.87),
        (0.39, 0.8),
    ]
    canvas.polygon(stem, (240, 230, 208), volume=0.8)
    canvas.ellipse((0.5, 0.52), (0.34, 0.08), (226, 208, 178), volume=0.3)
    for number in range(21):
        across = -1 + number / 10
        canvas.line([(0.5 + 0.1 * across, 0.5), (0.5 + 0.33 * across, 0.53)], (196, 174, 142), 0.004)
    cap = [
        (0.5 + 0.38 * math.cos(a * math.pi / 40), 0.5 - 0.34 * math.sin(a * math.pi / 40)) for a in range(41)
    ]
    rim = [(0.12 + 0.76 * a / 20, 0.5 + 0.035 * math.sin(a / 20 * math.pi)) for a in range(21)]
    canvas.polygon([*cap, *rim], (196, 44, 30), volume=0.8)
    for x, y, wide, high in (
        (0.5, 0.26, 0.06, 0.04),
        (0.34, 0.33, 0.05, 0.04),
        (0.66, 0.33, 0.05, 0.04),
        (0.24, 0.44, 0.03, 0.032),
        (0.77, 0.44, 0.03, 0.032),
        (0.47, 0.42, 0.045, 0.035),
        (0.6, 0.46, 0.035, 0.025),
    ):
        canvas.ellipse((x, y), (wide, high), (246, 238, 222), volume=0.4)
    for number in range(18):
        x = 0.3 + 0.4 * ((number * 0.618) % 1)
        canvas.line([(x, 0.93), (x + 0.03 * math.sin(number * 2.0), 0.82)], (92, 140, 56), 0.009)
    return canvas


def _goldfish() -> _Canvas:
    canvas = _Canvas((70, 150, 178), (14, 62, 92))
    for x, height in ((0.08, 0.5), (0.14, 0.36), (0.9, 0.44)):
        wave = [(x + 0.02 * math.sin(step), 1 - height * step / 10) for step in range(11)]
        canvas.line(wave, (44, 122, 74), 0.022)
    canvas.polygon([(0, 0.93), (0.3, 0.9), (0.7, 0.94), (1, 0.9), (1, 1), (0, 1)], (186, 164, 122))
    tail = [(0.66, 0.5), (0.94, 0.26), (0.88, 0.5), (0.95, 0.76)]
    canvas.polygon(tail, (246, 140, 40), volume=0.2)
    canvas.polygon([(0.34, 0.34), (0.46, 0.17), (0.64, 0.22), (0.66, 0.4)], (242, 124, 28), volume=0.2)
    canvas.polygon([(0.46, 0.64), (0.58, 0.82), (0.64, 0.62)], (242, 124, 28), volume=0.2)
    canvas.ellipse((0.44, 0.5), (0.29, 0.185), (244, 112, 20), volume=1)
    for row, y in enumerate((0.43, 0.5, 0.57)):
        for column in range(5):
            x = 0.4 + 0.055 * column + 0.027 * (row % 2)
            arc = [
                (x + 0.02 * math.cos(a * math.pi / 6 - 1.57), y + 0.03 * math.sin(a * math.pi / 6 - 1.57))
                for a in range(7)
            ]
            canvas.line(arc, (214, 84, 12), 0.006)
    canvas.polygon([(0.4, 0.55), (0.53, 0.68), (0.54, 0.56)], (250, 160, 60))
    canvas.ellipse((0.27, 0.46), (0.038, 0.038), (252, 246, 230))
    canvas.ellipse((0.262, 0.46), (0.021, 0.021), (20, 20, 24))
    for x, y, radius in ((0.1, 0.36, 0.02), (0.13, 0.27, 0.014), (0.09, 0.2, 0.01)):
        canvas.ellipse((x, y), (radius, radius), (176, 214, 226))
    return canvas


def _ellipse(centre: Point, radii: Point, turn: float) -> list[Point]:
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    points = []
    for step in range(120):
        across, down = radii[0] * math.cos(step * math.pi / 60), radii[1] * math.sin(step * math.pi / 60)
        points.append((centre[0] + across * cosine - down * sine, centre[1] + across * sine + down * cosine))
    return points


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


DRAWINGS: Mapping[str, Callable[[], _Canvas]] = {
    "lemon": _lemon,
    "ladybird": _ladybird,
    "school-bus": _school_bus,
    "lighthouse": _lighthouse,
    "mushroom": _mushroom,
    "goldfish": _goldfish,
}


if __name__ == "__main__":
    for name, image in draw_samples().items():
        image.save(FOLDER / "samples" / f"{name}.png", optimize=True)
