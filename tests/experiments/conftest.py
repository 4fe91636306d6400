"""A data set small enough to tune on in a test, and a place for studies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resattn.data.image_folder import prepare_image_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, draw_dots) -> Iterator[Path]:
    """A home with "dots": red and blue noise, 200 images of 16x16 pixels, of which tuning holds 8 out."""
    home, source = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("dots")
    draw_dots(source, {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=100, side=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESATTN_HOME", str(home))
        prepare_image_folder(source, name="dots", size=16, val_share=0.2)
        yield home


@pytest.fixture
def dots(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the data set; the test runs in a folder of its own."""
    monkeypatch.setenv("RESATTN_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return "dots"
