"""Fixtures every test may use: a home of its own, and the real archive where this checkout has one."""

import os
from pathlib import Path

import pytest

# As the `resattn` command does, before torch is loaded: tests share the machine too.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@pytest.fixture
def resattn_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$RESATTN_HOME` that ends with the test."""
    home = tmp_path / "home"
    monkeypatch.setenv("RESATTN_HOME", str(home))
    return home


@pytest.fixture
def tiny_imagenet_archive() -> Path:
    """The real archive beside the checkout; tests that need it skip where it is absent."""
    archive = Path(__file__).parents[2] / "shared" / "data" / "tiny-imagenet-200.zip"
    if not archive.is_file():
        pytest.skip(f"needs the real Tiny ImageNet archive at {archive}")
    return archive
