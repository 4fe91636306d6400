"""Where resattn keeps what it prepared and downloaded."""

import os
from pathlib import Path

import platformdirs


def resattn_home() -> Path:
    """`$RESATTN_HOME`, or the platform's folder for user data (`~/.local/share/resattn` on Linux)."""
    chosen = os.environ.get("RESATTN_HOME")
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("resattn", appauthor=False))
    )


def data_root() -> Path:
    """The folder with one prepared data set a subfolder."""
    return resattn_home() / "data"


def cache_root() -> Path:
    """The folder for downloaded archives."""
    return resattn_home() / "downloads"
