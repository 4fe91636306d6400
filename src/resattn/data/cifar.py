"""CIFAR-10 and CIFAR-100's official archives to packed data sets."""

import shlex
import time
from pathlib import Path
from typing import Literal

from resattn import progress
from resattn.data.cifar_archive import SIDE, Cifar, read_cifar
from resattn.data.download import Source, obtain
from resattn.data.durable import file_sha256
from resattn.data.packing import PackedWriter, PreparedReport

CifarName = Literal["cifar10", "cifar100"]
OFFICIAL: dict[CifarName, Source] = {
    "cifar10": Source(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        file_name="cifar-10-python.tar.gz",
    ),
    "cifar100": Source(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        file_name="cifar-100-python.tar.gz",
    ),
}
OFFICIAL_COUNTS = {"train": 50_000, "val": 10_000}


def prepare_cifar(
    name: CifarName,
    *,
    archive: Path | None = None,
    download: bool = False,
    source: Source | None = None,
    root: Path | None = None,
) -> PreparedReport:
    """Pack CIFAR-10 or CIFAR-100 (fine labels), 32 x 32, from the official python or binary archive.

    Splits: train (the official order) and val, which is the official test batch. Class ids are the official
    label names; there are no boxes. The python archives are pickles: they are read without running anything
    they name (see `cifar_archive`). Raises ResattnError, leaving nothing half-made, where the archive is not
    the official layout, damaged or cut short; nothing can be skipped, since a batch is one file.
    """
    started = time.monotonic()
    command = f"resattn prepare {name}"
    path = obtain(archive, download=download, source=source or OFFICIAL[name], command=command)
    cifar = read_cifar(path, name, mend=f"get the archive again with `{command} --download`")
    class_ids = sorted(cifar.label_names)
    labels = [class_ids.index(identity) for identity in cifar.label_names]
    names = [identity.replace("_", " ") for identity in class_ids]
    again = f"{command} --archive {shlex.quote(str(path.absolute()))}"
    with PackedWriter(
        name, class_ids=class_ids, class_names=names, command=again, root=root, started=started
    ) as writer:
        for split in cifar.splits:
            _pack(writer, split, cifar, labels)
        return writer.finish(source=path.name, source_sha256=file_sha256(path), notes=_notes(cifar))


def _pack(writer: PackedWriter, split: str, cifar: Cifar, labels: list[int]) -> None:
    """Write one split; `labels` maps the archive's label numbers to the sorted ones."""
    content = cifar.splits[split]
    count = len(content.images)
    with (
        writer.split(split, size=(SIDE, SIDE), expected_images=count) as packed,
        progress.bar(total=count, description=f"preparing {split}") as advance,
    ):
        for image, label, file_name in zip(content.images, content.labels, content.file_names, strict=True):
            packed.add(image, label=labels[label], file_name=file_name)
            advance(1)


def _notes(cifar: Cifar) -> list[str]:
    return [
        f"{split}: {len(content.images):,} images, where the official archive has {OFFICIAL_COUNTS[split]:,}"
        for split, content in cifar.splits.items()
        if len(content.images) != OFFICIAL_COUNTS[split]
    ]
