"""The embedded data set: textured shapes among clutter, drawn from a seed in seconds.

A class is a shape with a texture ("star-stripes"): every shape occurs with every texture, so neither alone
tells the class. Colours say nothing; position, scale and rotation of the shape, and period, phase and
direction of the texture vary; patches with the same textures and pieces of other colours lie around.
"""

import hashlib
from pathlib import Path

import numpy as np

from resattn import progress
from resattn.data.packing import PackedWriter, PreparedReport
from resattn.data.shape_drawing import SHAPES, SIDE, TEXTURES, VERSION, draw
from resattn.errors import ResattnError

NAME = "shapes"
TRAIN_IMAGES, VAL_IMAGES = 6_000, 1_000
CLASS_IDS = tuple(sorted(f"{shape}-{texture}" for shape in SHAPES for texture in TEXTURES))
_BATCH = 50
_STREAMS = {"train": 0, "val": 1}


def prepare_shapes(
    *,
    root: Path | None = None,
    seed: int = 0,
    train_images: int = TRAIN_IMAGES,
    val_images: int = VAL_IMAGES,
) -> PreparedReport:
    """Draw the data set `shapes`: 20 classes, 64 x 64 RGB, a box around each shape, splits train and val.

    The images depend on `seed` (0 or more) alone: image i of a split is the same however many are drawn.
    Labels take turns, so classes are balanced to within one image. Raises ResattnError for counts under one
    image a class.
    """
    counts = {"train": train_images, "val": val_images}
    if min(counts.values()) < len(CLASS_IDS) or seed < 0:
        raise ResattnError(
            f"shapes cannot be drawn with seed {seed}, {train_images} train and {val_images} val images",
            f"the seed is 0 or more, and each split has at least {len(CLASS_IDS)} images",
        )
    names = [identity.replace("-", " with ") for identity in CLASS_IDS]
    command = f"resattn prepare shapes --seed {seed}"
    with PackedWriter(NAME, class_ids=CLASS_IDS, class_names=names, command=command, root=root) as writer:
        for split, count in counts.items():
            _pack(writer, split, count, seed)
        source = f"shapes version {VERSION}, seed {seed}, {train_images} train and {val_images} val images"
        digest = hashlib.sha256(source.encode("ascii")).hexdigest()
        return writer.finish(source=source, source_sha256=digest)


def _pack(writer: PackedWriter, split: str, count: int, seed: int) -> None:
    """Draw one split, in batches with a random stream each: no image depends on how many there are."""
    with (
        writer.split(split, size=(SIDE, SIDE), expected_images=count, boxes="with") as packed,
        progress.bar(total=count, description=f"drawing {NAME} {split}") as advance,
    ):
        for first in range(0, count, _BATCH):
            generator = np.random.PCG64([seed, _STREAMS[split], first // _BATCH])
            labels = np.arange(first, first + _BATCH) % len(CLASS_IDS)
            images, boxes = draw([CLASS_IDS[label].split("-") for label in labels], generator)
            for row in range(min(_BATCH, count - first)):
                name = f"{split}_{first + row}.png"
                packed.add(images[row], label=int(labels[row]), file_name=name, box=boxes[row])
            advance(min(_BATCH, count - first))
