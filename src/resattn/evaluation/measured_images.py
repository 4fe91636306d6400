"""Which images an evaluation is of: a split of a data set, or a folder of the user's."""

import sys

from resattn.data.labelled_folder import folder_of, packed_from, read_labelled_folder
from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.evaluation.inference import class_names, configuration
from resattn.models.network import ResidualAttentionNetwork


def images_to_measure(
    network: ResidualAttentionNetwork, data: str | None, split: str | None
) -> tuple[str, str, PackedSplit | None]:
    """Names of data set and split; and the images themselves where they are those of a folder that is no data set.

    Without `data`, what the network was trained on. Of a folder that it was trained on, a split (`val` unless said
    otherwise): the other images it has seen. Of another folder every image, as "all". Raises ResattnError for a split
    of such a folder, and as `read_labelled_folder` does.
    """
    known = configuration(network)
    own = str(known.get("data"))
    path = folder_of(data or own)
    if path is None:
        return data or own, split or "val", None
    if packed_from(path, own):
        print(f"{path} is what the network was trained on, as {own}: split {split or 'val'}", file=sys.stderr)
        return own, split or "val", None
    if split is not None:
        raise ResattnError(
            f"{path} is no prepared data set and has no splits",
            f"leave out --split, or name the folder: {path / split}",
        )
    images, left_out = read_labelled_folder(path, *class_names(network), size=int(known["input_size"][-1]))
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    return images.data, images.split, images
