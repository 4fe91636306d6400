"""A data set small enough to train on in a test, and one that the tests of a module share."""

from pathlib import Path

import pytest

from resattn.data.image_folder import prepare_image_folder


@pytest.fixture
def dots(resattn_home: Path, tmp_path: Path, draw_dots) -> str:
    """The name of a prepared data set: two classes (red and blue noise), 120 images of 32x32 pixels."""
    draw_dots(tmp_path / "dots", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=60, side=32)
    prepare_image_folder(tmp_path / "dots", name="dots", size=32, val_share=0.2)
    return "dots"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, draw_dots) -> Path:
    """A home with the data set "dots": two classes, 120 images of 32x32 pixels."""
    place = tmp_path_factory.mktemp("processes")
    draw_dots(place / "dots", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=60, side=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESATTN_HOME", str(place / "home"))
        prepare_image_folder(place / "dots", name="dots", size=32, val_share=0.2)
    return place / "home"


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That home is `$RESATTN_HOME`."""
    monkeypatch.setenv("RESATTN_HOME", str(home))
