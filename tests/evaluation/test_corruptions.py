"""What corruptions do to images, whatever their size, their batch and the machine's mood."""

import itertools
import warnings

import numpy as np
import pytest
import torch

from resattn.evaluation import corruption_blurs
from resattn.evaluation.corruption_fields import plasma
from resattn.evaluation.corruptions import FAMILIES, SEVERITIES, corrupt

OFFICIAL_VALIDATION = {"gaussian_blur"}


def photos(count: int, height: int, width: int) -> np.ndarray:
    """Images with broad shapes and fine texture, so that every corruption changes them."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([np.sin(9 * down + k) * np.cos(7 * across * (k + 1)) for k in range(3)], axis=2)
    images = 128 + 70 * waves + rng.normal(0, 25, (count, height, width, 3))
    return np.clip(images, 0, 255).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(((one.astype(np.float64) - other) ** 2).mean()))


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_range_and_determinism_at_any_size(family: str) -> None:
    for height, width in ((64, 64), (32, 32), (4, 6), (37, 50), (1, 1)):
        images = photos(2, height, width)
        before = images.copy()
        for severity in SEVERITIES:
            corrupted = corrupt(images, family, severity, seeds=[7, 8])
            assert corrupted.shape == images.shape and corrupted.dtype == np.uint8
            assert np.array_equal(corrupted, corrupt(images, family, severity, seeds=[7, 8]))
        assert np.array_equal(images, before)
    large = photos(1, 224, 224)
    assert distance(corrupt(large, family, 5, seeds=[0]), large) > 3


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_does_not_depend_on_its_batch(family: str) -> None:
    images = photos(5, 64, 64)
    together = corrupt(images, family, 3, seeds=range(5))
    for place in range(5):
        alone = corrupt(images[place : place + 1], family, 3, seeds=np.array([place]))
        assert np.array_equal(alone[0], together[place])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(corrupt(images, family, 3, seeds=range(5)), together)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "elastic_transform"])
def test_severities_lead_away_from_the_image(family: str) -> None:
    images = photos(4, 64, 64)
    away = [distance(corrupt(images, family, severity, seeds=range(4)), images) for severity in SEVERITIES]
    assert away[0] > 1
    assert all(nearer < farther for nearer, farther in itertools.pairwise(away)), away


def test_elastic_moves_whole_images_first_and_tears_them_last() -> None:
    # A ramp shows by how many pixels its places have moved; what an affine map does to it has no curvature.
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (4, 1, 64, 3))
    torn = []
    for severity in SEVERITIES:
        moved = corrupt(ramp, "elastic_transform", severity, seeds=range(4)).astype(np.float64)[
            :, 16:48, 16:48
        ]
        torn.append(np.abs(np.diff(moved, 2, axis=2)).mean())
    assert torn[0] < 1
    assert torn == sorted(torn)


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_matter_where_there_is_chance_alone(family: str) -> None:
    images = np.repeat(photos(1, 64, 64), 2, axis=0)
    first, second = corrupt(images, family, 3, seeds=[1, 2])
    random = {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog", "elastic_transform"}
    assert np.array_equal(first, second) == (family not in random)


def test_the_families_are_those_of_tiny_imagenet_c() -> None:
    official = {
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    }  # fmt: skip
    assert official - set(FAMILIES) == {"glass_blur", "snow", "frost"}
    assert set(FAMILIES) - official == OFFICIAL_VALIDATION


def test_wrong_severities_families_and_seeds() -> None:
    images = photos(2, 8, 8)
    for severity in (0, 6):
        with pytest.raises(ValueError, match=f"severity is {severity}"):
            corrupt(images, "fog", severity, seeds=[0, 1])
    with pytest.raises(KeyError):
        corrupt(images, "rain", 1, seeds=[0, 1])
    with pytest.raises(ValueError):
        corrupt(images, "fog", 1, seeds=[0])


def grey(value: int, count: int = 20) -> np.ndarray:
    return np.full((count, 64, 64, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_strength_it_says(severity: int) -> None:
    level = severity - 1
    noisy = corrupt(grey(128), "gaussian_noise", severity, seeds=range(20)) / 255
    deviation = FAMILIES["gaussian_noise"].levels[level]
    assert noisy.mean() == pytest.approx(128 / 255, abs=2e-3)
    assert noisy.std() == pytest.approx(deviation, rel=0.02)
    photons = FAMILIES["shot_noise"].levels[level]
    shot = corrupt(grey(64), "shot_noise", severity, seeds=range(20)) / 255
    assert shot.mean() == pytest.approx(64 / 255, rel=0.01)
    assert shot.std() == pytest.approx(np.sqrt(64 / 255 / photons), rel=0.02)
    assert not corrupt(grey(0), "shot_noise", severity, seeds=range(20)).any()
    share = FAMILIES["impulse_noise"].levels[level]
    struck = corrupt(grey(99), "impulse_noise", severity, seeds=range(20))
    for value in (0, 255):
        assert (struck == value).mean() == pytest.approx(share / 2, rel=0.1)
    assert set(np.unique(struck)) == {0, 99, 255}


def test_brightness_and_contrast_by_hand() -> None:
    pixel = np.array([[[[51, 102, 0], [0, 0, 0], [255, 0, 255]]]], dtype=np.uint8)
    # Value 0.4 becomes 0.6: every channel times 1.5. Black becomes grey, what is full stays.
    bright = corrupt(pixel, "brightness", 2, seeds=[0])
    assert bright.tolist() == [[[[76, 153, 0], [51, 51, 51], [255, 0, 255]]]]
    halves = np.array([[[[0, 10, 200], [200, 10, 0]]]], dtype=np.uint8)
    assert corrupt(halves, "contrast", 1, seeds=[0]).tolist() == [[[[60, 10, 140], [140, 10, 60]]]]


@pytest.mark.parametrize("family", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur"])
def test_blurs_keep_what_is_even_and_the_light(family: str) -> None:
    assert np.array_equal(corrupt(grey(77, 1), family, 5, seeds=[0]), grey(77, 1))
    dot = grey(0, 1)
    # Beside the middle, which a zoom leaves where it is.
    dot[0, 20:22, 40:42] = 255
    spread = corrupt(dot, family, 4, seeds=[0]).astype(np.float64)
    assert spread.max() < 255
    assert spread.sum() == pytest.approx(4 * 3 * 255, rel=0.1 if family != "zoom_blur" else 0.5)


def test_a_blur_reaches_twice_as_far_where_images_are_twice_as_large() -> None:
    for family in ("gaussian_blur", "motion_blur", "defocus_blur"):
        widths = []
        for side in (64, 128):
            line = np.zeros((1, side, side, 3), dtype=np.uint8)
            line[:, :, side // 2] = 255
            profile = corrupt(line, family, 5, seeds=[0])[0, side // 2, :, 0].astype(np.float64)
            places = np.arange(side)
            middle = (profile * places).sum() / profile.sum()
            widths.append(np.sqrt((profile * (places - middle) ** 2).sum() / profile.sum()))
        assert widths[1] / widths[0] == pytest.approx(2, rel=0.1), family


def test_weights_sum_to_one() -> None:
    for deviation in (0.0, 0.01, 0.5, 1.5, 5.25):
        assert corruption_blurs._normal_weights(deviation).sum() == pytest.approx(1, rel=1e-6)
    for radius, softness in FAMILIES["defocus_blur"].levels:
        assert sum(tap.weight for tap in corruption_blurs._disk(radius, softness)) == pytest.approx(
            1, rel=1e-4
        )
    # Radius 1, hardly softened: a pixel and its four neighbours.
    cross = {(t.down, t.across): t.weight for t in corruption_blurs._disk(1, 0.1)}
    assert cross == pytest.approx(dict.fromkeys([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], 0.2))


@pytest.mark.parametrize("side", [1, 2, 3, 64, 65])
def test_clouds_fill_their_range_and_join_at_the_edges(side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cloud = plasma(side, 2.0, np.random.default_rng(0))
    assert cloud.shape[0] == cloud.shape[1] >= side
    assert (cloud.min(), cloud.max()) == (0, 1)
    if side == 64:
        assert np.abs(cloud[0] - cloud[-1]).mean() < 0.25
        rough = [
            np.abs(np.diff(plasma(64, decay, np.random.default_rng(0)))).mean() for decay in (3, 2, 1.75)
        ]
        assert rough == sorted(rough)
