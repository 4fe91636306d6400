"""Which images an evaluation is of: a split of a data set, or a folder of the user's."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from resattn.data.labelled_folder import folder_of, packed_from, read_labelled_folder
from resattn.data.packed import PREPARE_COMMANDS, PackedSplit, open_split
from resattn.errors import ResattnError
from resattn.evaluation.inference import class_names, class_number, configuration
from resattn.models.network import ResidualAttentionNetwork


def images_to_measure(
    network: ResidualAttentionNetwork, data: str | None, split: str | None, *, usual: str = "val"
) -> tuple[str, str, PackedSplit | None]:
    """Names of data set and split; and the images themselves where they are those of a folder that is no data set.

    Without `data`, what the network was trained on. Of a folder that it was trained on, a split (`usual` where none is
    named): the other images it has seen. Of another folder every image, as "all"; its folders are named after classes
    as `class_number` takes them. Raises ResattnError for a split of such a folder, and where there are no images.
    """
    known = configuration(network)
    own = str(known.get("data"))
    path = folder_of(data or own)
    if path is None:
        return data or own, split or usual, None
    trained_on = packed_from(path, own)
    if trained_on:
        print(f"{path} is what the network was trained on, as {own}: split {split or usual}", file=sys.stderr)
        return own, split or usual, None
    if trained_on is None and own not in PREPARE_COMMANDS:
        print(f"note: {own}, which the network was trained on, is not here: is it {path}?", file=sys.stderr)
    if split is not None:
        raise ResattnError(
            f"{path} is no prepared data set and has no splits",
            f"leave out --split, or name the folder: {path / split}",
        )
    images, left_out = read_labelled_folder(
        path,
        *class_names(network),
        label_of=partial(class_number, network),
        size=int(known["input_size"][-1]),
    )
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    if trained_on is False:
        _note_images_trained_on(images, own)
    return images.data, images.split, images


def _note_images_trained_on(images: PackedSplit, own: str) -> None:
    """Say where most of these are called as those that the network was trained on: a copy, or the folder moved."""
    known = set(open_split(own, "train").file_names)
    met = sum(name in known for name in images.file_names)
    if 2 * met > len(images.file_names):
        print(
            f"note: {met:,} of these {len(images.file_names):,} images are called as images of {own} that the network "
            "was trained on: where they are the same, this is no accuracy on new images",
            file=sys.stderr,
        )


def note_prepared_anew(images: PackedSplit, recorded: Mapping[str, Any]) -> None:
    """Say where the data set that a network was trained on was prepared from other files since."""
    if is_other_than_trained_on(images, recorded):
        print(
            f"note: {images.data} was prepared anew, from other files, since the training began: images that the "
            f"network was trained on may be among those of {images.split}",
            file=sys.stderr,
        )


def is_other_than_trained_on(images: PackedSplit, recorded: Mapping[str, Any]) -> bool:
    """Whether the files of a data set are others than those that a run `recorded`, in its environment, as it began."""
    return (recorded.get("data_sha256") or images.source_sha256) != images.source_sha256
