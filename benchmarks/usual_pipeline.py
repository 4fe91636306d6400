"""The input pipeline of a user without resattn: image files in class folders, torchvision's transforms, a DataLoader.

It is the peer of `input_pipeline.py` and feeds the peers of `accuracy_at_equal_time.py`. The image folders are made
once, under `$RESATTN_HOME/image-folders`.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from resattn.data.faults import Faults
from resattn.data.packed import open_split
from resattn.data.tiny_imagenet_layout import read_layout
from resattn.data.zip_archive import ZipArchive
from resattn.home import cache_root, resattn_home
from resattn.models.network import IMAGENET_MEAN, IMAGENET_STD

SPLITS = ("train", "val")
CROP_PADDING = 4
JPEG_QUALITY = 90
_FETCH = "name the archive with --archive tiny-imagenet-200.zip"


def image_folder(data: str, *, archive: Path | None = None) -> Path:
    """The folder with train/CLASS/FILE and val/CLASS/FILE of a data set, made where it is not there.

    Tiny ImageNet's are the files of the official archive (given, or downloaded by `resattn prepare`); those of other
    prepared data are written as JPEG, as photographs usually come.
    """
    folder = resattn_home() / "image-folders" / data
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{data}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if data == "tiny-imagenet":
        _unpack(archive or cache_root() / "tiny-imagenet-200.zip", partial)
    else:
        _export(data, partial)
    return partial.rename(folder)


def _unpack(archive: Path, folder: Path) -> None:
    with ZipArchive(archive, mend=_FETCH) as opened:
        layout = read_layout(opened, Faults(action="stop", mend=_FETCH), mend=_FETCH)
        for split in SPLITS:
            for class_id in layout.class_ids:
                (folder / split / class_id).mkdir(parents=True)
            for image in layout.splits[split]:
                content = opened.read(image.member)
                (folder / split / layout.class_ids[image.label] / image.file_name).write_bytes(content)


def _export(data: str, folder: Path) -> None:
    for name in SPLITS:
        split = open_split(data, name)
        for class_id in split.class_ids:
            (folder / name / class_id).mkdir(parents=True)
        for row, label in enumerate(split.labels):
            path = folder / name / split.class_ids[int(label)] / f"{row}.jpeg"
            Image.fromarray(np.asarray(split.images[row])).save(path, quality=JPEG_QUALITY)


def usual_loader(
    folder: Path, *, split: str, side: int, batch_size: int, workers: int
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of normalised images and labels: "train" cropped, flipped and shuffled; "val" as they are."""
    to_tensor = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    augment = [
        transforms.RandomCrop(side, padding=CROP_PADDING, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
    ]
    training = split == "train"
    images = ImageFolder(
        str(folder / split), transforms.Compose([*(augment if training else []), *to_tensor])
    )
    return DataLoader(images, batch_size, shuffle=training, num_workers=workers, drop_last=training)
