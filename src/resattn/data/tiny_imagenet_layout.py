"""What the official Tiny ImageNet archive says about each of its images, before one of them is decoded.

    tiny-imagenet-200/wnids.txt                      the class ids, one a line
    tiny-imagenet-200/words.txt                      id, tab, readable name; for all of WordNet
    tiny-imagenet-200/train/ID/images/ID_0.JPEG
    tiny-imagenet-200/train/ID/ID_boxes.txt          file name, x0, y0, x1, y1, with tabs between
    tiny-imagenet-200/val/images/val_0.JPEG
    tiny-imagenet-200/val/val_annotations.txt        file name, class id, x0, y0, x1, y1, with tabs between
    tiny-imagenet-200/test/images/test_0.JPEG        unlabelled

Boxes in the archive name the first and the last pixel inside: all four numbers are integers of 0 to 63, the
last column or row appears as 63, and x0 = x1 occurs (one pixel wide) but x0 > x1 does not. As edges, x1 and
y1 exclusive, which is what a packed split holds, a box is therefore x0, y0, x1 + 1, y1 + 1.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from resattn.data.faults import Faults
from resattn.data.zip_archive import BadMemberError, ZipArchive
from resattn.errors import ResattnError

SIDE = 64
# The official archive's largest list, words.txt, has 2,655,750 bytes.
_MAX_TEXT_BYTES = 4 * 2**20
OFFICIAL_COUNTS = {"train": 100_000, "val": 10_000, "test": 10_000}

Box = tuple[float, float, float, float]
_TRAIN_IMAGE = re.compile(r"train/([^/]+)/images/([^/]+)")
_FLAT_IMAGE = re.compile(r"(val|test)/images/([^/]+)")
_TRAIN_BOXES = re.compile(r"train/([^/]+)/\1_boxes\.txt")
_NUMBER = r"_([0-9]{1,9})\.JPEG"


class PlannedImage(NamedTuple):
    """An image to decode: its member, label (-1: none), own file name and box as edges."""

    member: str
    label: int
    file_name: str
    box: Box | None


@dataclass(frozen=True)
class Layout:
    """The archive: sorted class ids, their names, the images of each split, and what is unusual."""

    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    splits: dict[str, list[PlannedImage]]
    notes: tuple[str, ...]

    def part(self, classes: int) -> "Layout":
        """So many of the classes, those whose ids have the smallest SHA-256, and the images that are labelled so.

        Raises ResattnError for fewer than two classes, and for as many as there are or more.
        """
        if not 2 <= classes < len(self.class_ids):
            raise ResattnError(
                f"--classes is {classes}",
                f"name at least 2 of the {len(self.class_ids)}, or leave it out for all of them",
            )
        kept = some_classes(self.class_ids, classes)
        return Layout(
            class_ids=tuple(self.class_ids[label] for label in kept),
            class_names=tuple(self.class_names[label] for label in kept),
            splits={
                split: [
                    image._replace(label=kept.index(image.label)) for image in images if image.label in kept
                ]
                for split, images in self.splits.items()
                if split != "test"
            },
            notes=(
                # Those about a split count the whole archive.
                *(note for note in self.notes if note.partition(":")[0] not in OFFICIAL_COUNTS),
                f"{classes} of {len(self.class_ids)} classes",
            ),
        )


def some_classes(class_ids: Sequence[str], count: int) -> list[int]:
    """The labels of `count` classes, sorted: those whose ids have the smallest SHA-256."""
    by_hash = sorted(
        range(len(class_ids)), key=lambda label: hashlib.sha256(class_ids[label].encode()).digest()
    )
    return sorted(by_hash[:count])


class _Row(NamedTuple):
    where: str
    fields: list[str]


def read_layout(archive: ZipArchive, faults: Faults, *, mend: str) -> Layout:
    """Read class lists and annotations and compare them with the images that are there, both ways.

    Train images come in order of class id, then file number; validation and test images by file number.
    Raises ResattnError where the archive is not Tiny ImageNet's; single files and lines that are wrong go to
    `faults`.
    """
    return _Reader(archive, faults, mend).layout()


class _Reader:
    def __init__(self, archive: ZipArchive, faults: Faults, mend: str) -> None:
        self.archive, self.faults, self.mend = archive, faults, mend
        self.unreadable: set[str] = set()
        self.prefix = self._prefix()
        self.class_ids = self._class_ids()
        self.label = {identity: label for label, identity in enumerate(self.class_ids)}
        self.images: dict[str, dict[str, str]] = {"val": {}, "test": {}}
        self.train: dict[str, dict[str, str]] = {}
        self.unread: list[str] = []
        self._sort_members()

    def layout(self) -> Layout:
        names = self._class_names()
        splits = {"train": self._train(), "val": self._val(), "test": self._test()}
        return Layout(self.class_ids, names, splits, tuple(self._notes(splits)))

    def _prefix(self) -> str:
        found = [name for name in self.archive.members if PurePosixPath(name).name == "wnids.txt"]
        if len(found) != 1:
            what = "holds no wnids.txt" if not found else f"holds several wnids.txt ({', '.join(found)})"
            raise ResattnError(f"{self.archive.path} is not the Tiny ImageNet archive: it {what}", self.mend)
        return found[0].removesuffix("wnids.txt")

    def _class_ids(self) -> tuple[str, ...]:
        ids = [row.fields[0] for row in self._required_rows("wnids.txt")]
        if (
            not ids
            or len(set(ids)) != len(ids)
            or not all(re.fullmatch(r"\w[\w-]*", identity) for identity in ids)
        ):
            raise ResattnError(
                f"{self._where('wnids.txt')} is damaged: it has to hold one class id a line, each once",
                self.mend,
            )
        return tuple(sorted(ids))

    def _class_names(self) -> tuple[str, ...]:
        names: dict[str, str] = {}
        for row in self._rows("words.txt"):
            if len(row.fields) != 2 or not row.fields[1].strip():
                self.faults.found(row.where, "is not a class id, a tab and a name")
            elif row.fields[0] in names:
                self.faults.found(row.where, f"names {row.fields[0]} a second time")
            elif row.fields[0] in self.label:
                names[row.fields[0]] = row.fields[1].strip()
        for identity in self.class_ids:
            if identity not in names and "words.txt" not in self.unreadable:
                self.faults.found(self._where("words.txt"), f"has no name for the class id {identity}")
        return tuple(names.get(identity, identity) for identity in self.class_ids)

    def _sort_members(self) -> None:
        """Sort the image members by split and class; what is twice there or misnamed is a fault."""
        for member in self.archive.members:
            name = member.removeprefix(self.prefix) if member.startswith(self.prefix) else ""
            train, flat = _TRAIN_IMAGE.fullmatch(name), _FLAT_IMAGE.fullmatch(name)
            if (train or flat) and member in self.archive.repeated:
                self.faults.found(self._where(name), "is in the archive more than once")
            if train:
                identity, file_name = train.groups()
                if identity not in self.label:
                    self.faults.found(
                        self._where(name), f"is of the unknown class id {identity}, not in wnids.txt"
                    )
                elif self._numbered(identity, name, file_name):
                    self.train.setdefault(identity, {})[file_name] = member
            elif flat:
                split, file_name = flat.groups()
                if self._numbered(split, name, file_name):
                    self.images[split][file_name] = member
            elif not self._is_annotation(name):
                self.unread.append(member)

    def _is_annotation(self, name: str) -> bool:
        return name in ("wnids.txt", "words.txt", "val/val_annotations.txt") or bool(
            _TRAIN_BOXES.fullmatch(name)
        )

    def _numbered(self, stem: str, name: str, file_name: str) -> bool:
        if re.fullmatch(re.escape(stem) + _NUMBER, file_name):
            return True
        self.faults.found(self._where(name), f"should be named {stem}_NUMBER.JPEG")
        return False

    def _train(self) -> list[PlannedImage]:
        planned = []
        for label, identity in enumerate(self.class_ids):
            images = self.train.get(identity, {})
            if not images:
                raise ResattnError(
                    f"{self._where(f'train/{identity}/images')} holds no images of the class id {identity}",
                    self.mend,
                )
            boxes_file = f"train/{identity}/{identity}_boxes.txt"
            boxes = dict(self._annotations(boxes_file, images, columns=5))
            for file_name in sorted(images, key=_file_number):
                box = self._box(boxes[file_name]) if file_name in boxes else None
                if file_name not in boxes and boxes_file not in self.unreadable:
                    self.faults.found(self._where(boxes_file), f"has no box for {file_name}")
                planned.append(PlannedImage(images[file_name], label, file_name, box))
        return planned

    def _val(self) -> list[PlannedImage]:
        file = "val/val_annotations.txt"
        images = self.images["val"]
        rows = dict(self._annotations(file, images, columns=6))
        planned = []
        for file_name in sorted(images, key=_file_number):
            row = rows.get(file_name)
            if row is None:
                self.faults.found(self._where(f"val/images/{file_name}"), f"has no line in {file}")
            elif row.fields[1] not in self.label:
                self.faults.found(row.where, f"has the unknown class id {row.fields[1]!r}, not in wnids.txt")
            else:
                label = self.label[row.fields[1]]
                planned.append(PlannedImage(images[file_name], label, file_name, self._box(row)))
        if not planned:
            raise ResattnError(f"{self._where('val')} holds no images with an annotation", self.mend)
        return planned

    def _test(self) -> list[PlannedImage]:
        images = self.images["test"]
        return [PlannedImage(images[name], -1, name, None) for name in sorted(images, key=_file_number)]

    def _annotations(self, file: str, images: dict[str, str], *, columns: int) -> Iterator[tuple[str, _Row]]:
        """The rows of an annotation file that are about an image that is there, each image once."""
        seen = set()
        for row in self._rows(file):
            file_name = row.fields[0]
            if len(row.fields) != columns:
                self.faults.found(row.where, f"has {len(row.fields)} columns, not {columns}")
            elif file_name not in images:
                self.faults.found(row.where, f"is about {file_name!r}, which is not in the archive")
            elif file_name in seen:
                self.faults.found(row.where, f"is about {file_name} a second time")
            else:
                seen.add(file_name)
                yield file_name, row

    def _box(self, row: _Row) -> Box | None:
        texts = row.fields[-4:]
        if all(re.fullmatch(r"[0-9]{1,2}", text) for text in texts):
            x0, y0, x1, y1 = (int(text) for text in texts)
            if x0 <= x1 < SIDE and y0 <= y1 < SIDE:
                return (float(x0), float(y0), float(x1 + 1), float(y1 + 1))
        self.faults.found(row.where, f"has no box of pixels 0 to {SIDE - 1}: {' '.join(texts)!r}")
        return None

    def _required_rows(self, name: str) -> list[_Row]:
        before = len(self.faults.skipped)
        rows = list(self._rows(name))
        if len(self.faults.skipped) > before:
            raise ResattnError(self.faults.skipped[-1], self.mend)
        return rows

    def _rows(self, name: str) -> Iterator[_Row]:
        """The lines of a text member, split at tabs, one at a time; an unreadable or absent one is a single fault."""
        where = self._where(name)
        try:
            text = self._text(name)
        except BadMemberError as error:
            self.unreadable.add(name)
            self.faults.found(where, str(error))
            return
        for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
            if line.strip():
                yield _Row(f"{where} line {number}", line.rstrip("\r\n").split("\t"))

    def _text(self, name: str) -> str:
        member = self.prefix + name
        if member not in self.archive.members:
            raise BadMemberError("is missing")
        if member in self.archive.repeated:
            raise BadMemberError("is in the archive more than once")
        try:
            return self.archive.read(member, most_bytes=_MAX_TEXT_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadMemberError(f"is not UTF-8 ({error})") from error

    def _where(self, name: str) -> str:
        return f"{self.archive.path}: {self.prefix}{name}"

    def _notes(self, splits: dict[str, list[PlannedImage]]) -> Iterator[str]:
        for split, images in splits.items():
            official = OFFICIAL_COUNTS[split]
            if len(images) != official:
                yield f"{split}: {len(images):,} images, where the official archive has {official:,}"
        if self.unread:
            names = ", ".join(self.unread[:3]) + (", ..." if len(self.unread) > 3 else "")
            yield f"{len(self.unread):,} files that are no part of the layout were not read: {names}"


def _file_number(file_name: str) -> tuple[int, str]:
    return int(file_name.rpartition("_")[2].removesuffix(".JPEG")), file_name
