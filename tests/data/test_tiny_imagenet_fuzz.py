"""Archives spoilt at random: `prepare` is right about them or refuses them, and leaves nothing half-made."""

import io
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resattn.data.packed import available_splits, open_split
from resattn.data.tiny_imagenet import prepare_tiny_imagenet
from resattn.errors import ResattnError

P = "tiny-imagenet-200/"
Member = tuple[str, bytes]
Change = Callable[[list[Member]], list[Member]]
INDEX = st.integers(0, 10_000)
NAMES = st.one_of(
    st.sampled_from(
        [
            f"{P}train/n01443537/images/n01443537_99.JPEG",
            f"{P}train/n01443537/images/n07749582_3.JPEG",
            f"{P}train/n00000000/images/n00000000_0.JPEG",
            f"{P}val/images/val_77.JPEG",
            f"{P}test/images/test_77.JPEG",
            f"{P}wnids.txt",
            f"{P}train/n01443537/n01443537_boxes.txt",
            "../escape.JPEG",
            "/etc/escape",
            "..\\escape",
            f"{P}elsewhere/file",
        ]
    ),
    # zipfile itself can write no name that begins with a NUL: it ends there.
    st.text(min_size=1, max_size=12).filter(lambda name: not name.startswith("\0")),
)
BYTES = st.binary(max_size=12)


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Change]:
    """One change to the list of members: renamed, dropped, repeated, swapped, or bytes of one replaced or cut."""
    kind = draw(
        st.sampled_from(["rename", "drop", "repeat", "swap", "garble", "garble text", "cut", "edit line"])
    )
    index, other, place, name, put = draw(INDEX), draw(INDEX), draw(INDEX), draw(NAMES), draw(BYTES)

    def change(members: list[Member]) -> list[Member]:
        members = list(members)
        texts = [n for n, (member, _) in enumerate(members) if member.endswith(".txt")] or [0]
        i, j = index % len(members), other % len(members)
        if kind in ("garble text", "edit line"):
            i = texts[index % len(texts)]
        own, content = members[i]
        at = place % (len(content) + 1)
        if kind == "rename":
            members[i] = (name, content)
        elif kind == "drop" and len(members) > 1:
            del members[i]
        elif kind == "repeat":
            members.insert(j, members[i])
        elif kind == "swap":
            members[i], members[j] = (own, members[j][1]), (members[j][0], content)
        elif kind == "cut":
            members[i] = (own, content[:at])
        elif kind == "edit line":
            lines = content.split(b"\n")
            del lines[place % len(lines)]
            members[i] = (own, b"\n".join(lines))
        else:
            members[i] = (own, content[:at] + put + content[at + len(put) :])
        return members

    return kind, change


class Official(list[Member]):
    """The members of a correct archive; hypothesis prints them when a test fails, so briefly."""

    def __repr__(self) -> str:
        return "official"


@pytest.fixture(scope="module")
def official(samples: Any) -> Official:
    """A smaller archive still: three train images a class."""
    members = samples.official_members()
    small = {name: content for name, content in members.items() if "/train/" not in name}
    for name, content in members.items():
        if "/train/" in name and name.endswith("_boxes.txt"):
            small[name] = b"".join(content.splitlines(keepends=True)[1:4])
        elif name.endswith(("_0.JPEG", "_1.JPEG", "_2.JPEG")):
            small[name] = content
    return Official(small.items())


class Read:
    """The archive, read again by the shortest way: of members with the same name the first."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self.content: dict[str, bytes] = {}
            for member in archive.infolist():
                with suppress(Exception):
                    self.content.setdefault(member.filename, archive.read(member))
        (lists,) = (name for name in self.content if name.split("/")[-1] == "wnids.txt")
        self.prefix = lists.removesuffix("wnids.txt")
        self.classes = sorted(row[0] for row in self.rows("wnids.txt"))

    def rows(self, name: str) -> list[list[str]]:
        lines = self.content.get(self.prefix + name, b"").decode("utf-8", "replace").split("\n")
        return [line.rstrip("\r").split("\t") for line in lines if line.strip()]

    def annotations(self, split: str) -> dict[str, list[str]]:
        files = {
            "train": [f"train/{identity}/{identity}_boxes.txt" for identity in self.classes],
            "val": ["val/val_annotations.txt"],
            "test": [],
        }
        found: dict[str, list[str]] = {}
        for row in (row for file in files[split] for row in self.rows(file)):
            found.setdefault(row[0], row)
        return found


def check_against_archive(path: Path, root: Path, *, complete: bool) -> None:
    """Compare what was packed with the archive; `complete`: nothing was left out."""
    read = Read(path)
    for split in available_splits("tiny-imagenet", root=root):
        packed = open_split("tiny-imagenet", split, root=root)
        assert list(packed.class_ids) == read.classes
        if complete:
            words = {row[0]: row[1].strip() for row in read.rows("words.txt")}
            assert list(packed.class_names) == [words[identity] for identity in read.classes]
            start = f"{read.prefix}{split}/"
            there = [name for name in read.content if name.startswith(start) and "/images/" in name]
            assert len(packed.images) == len(there)
        annotations = read.annotations(split)
        for row, file_name in enumerate(packed.file_names):
            folder = f"train/{read.classes[packed.labels[row]]}" if split == "train" else split
            with Image.open(io.BytesIO(read.content[f"{read.prefix}{folder}/images/{file_name}"])) as image:
                assert np.array_equal(packed.images[row], np.asarray(image.convert("RGB")))
            check_annotation(packed, row, annotations.get(file_name), complete=complete)


def check_annotation(packed: Any, row: int, annotation: list[str] | None, *, complete: bool) -> None:
    if packed.split == "test":
        assert packed.labels[row] == -1
        return
    if packed.split == "val":
        assert annotation is not None
        assert packed.class_ids[packed.labels[row]] == annotation[1]
    if complete or not np.isnan(packed.boxes[row]).any():
        assert annotation is not None
        x0, y0, x1, y1 = (int(text) for text in annotation[-4:])
        assert packed.boxes[row].tolist() == [x0, y0, x1 + 1, y1 + 1]


def attempt(path: Path, root: Path, samples: Any, ended: Any, *, skip_bad: bool) -> None:
    try:
        report = prepare_tiny_imagenet(archive=path, root=root, skip_bad=skip_bad, workers=1)
    except ResattnError as error:
        assert str(path) in error.what
        assert error.mend
        assert samples.below(root) == []
        ended("refused")
    else:
        check_against_archive(path, root, complete=not report.skipped)
        ended("prepared")
    # Beside the archive and the data set, nothing: no member was written elsewhere.
    assert {entry.name for entry in path.parent.iterdir()} <= {path.name, root.name}


@settings.get_profile("fuzzing")
@given(spoilt=st.lists(changes(), min_size=1, max_size=3), skip_bad=st.booleans())
def test_members_spoilt_at_random(
    official: Official, samples: Any, ended: Any, spoilt: list[tuple[str, Change]], skip_bad: bool
) -> None:
    members: list[Member] = official
    for _, change in spoilt:
        members = change(members)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = samples.write_zip(Path(folder) / "small.zip", members)
        except (ValueError, UnicodeEncodeError):  # zipfile refuses to write such a name
            return
        attempt(path, Path(folder) / "data", samples, ended, skip_bad=skip_bad)


@settings.get_profile("fuzzing")
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
    headers=st.booleans(),
    skip_bad=st.booleans(),
)
def test_bytes_of_the_file_spoilt_at_random(
    official: Official,
    samples: Any,
    ended: Any,
    places: list[tuple[float, int]],
    keep: float,
    headers: bool,
    skip_bad: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = samples.write_zip(Path(folder) / "small.zip", official)
        content = bytearray(path.read_bytes())
        # Half of the time only in the directory at the end, which is small and where most damage would be done.
        first = content.index(b"PK\x01\x02") if headers else 0
        for place, flip in places:
            content[first + int(place * (len(content) - first - 1))] ^= flip
        path.write_bytes(content[: int(keep * len(content))])
        attempt(path, Path(folder) / "data", samples, ended, skip_bad=skip_bad)
