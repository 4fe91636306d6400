"""Wrong labels on purpose: how many, which, and that they stay so."""

import numpy as np
import pytest

from resattn.data.label_noise import noisy_labels

LABELS = np.arange(20_000) % 10


@pytest.mark.parametrize("share", [0.1, 0.7, 1.0])
def test_the_share_is_wrong_and_every_other_class_as_likely(share: float) -> None:
    noisy = noisy_labels(LABELS, share, classes=10, seed=3)
    assert (noisy != LABELS).mean() == pytest.approx(share, abs=0.01)
    away = (noisy - LABELS)[noisy != LABELS] % 10
    counts = np.bincount(away, minlength=10)
    assert counts[0] == 0
    assert counts[1:] == pytest.approx(share * 20_000 / 9, rel=0.2)


def test_which_ones_follows_from_the_seed() -> None:
    one, again, other = (noisy_labels(LABELS, 0.3, classes=10, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_unlabelled_images_and_a_single_class_stay() -> None:
    assert (noisy_labels(np.full(50, -1), 1.0, classes=10, seed=0) == -1).all()
    assert (noisy_labels(np.zeros(50, dtype=np.int64), 1.0, classes=1, seed=0) == 0).all()
