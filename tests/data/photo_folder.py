"""A folder of one's own images, prepared as the data set "pets"."""

from collections.abc import Callable
from pathlib import Path

from resattn.data.image_folder import prepare_image_folder
from resattn.data.packing import PreparedReport

Write = Callable[..., None]


def prepare(tree: Path, **options: object) -> PreparedReport:
    return prepare_image_folder(tree, name="pets", root=tree.parent / "data", **{"size": 16, **options})
