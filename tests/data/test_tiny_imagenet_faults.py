"""Every bad input of Tiny ImageNet's archive by its exact error, and what --skip-bad makes of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resattn.data.packed import open_split
from resattn.data.packing import PreparedReport
from resattn.data.tiny_imagenet import prepare_tiny_imagenet
from resattn.errors import ResattnError

P = "tiny-imagenet-200/"
GOLDFISH, SALAMANDER, LEMON = "n01443537", "n01629819", "n07749582"
TRAIN = f"{P}train/{GOLDFISH}/images/{GOLDFISH}_3.JPEG"
BOXES = f"{P}train/{GOLDFISH}/{GOLDFISH}_boxes.txt"
ANNOTATIONS = f"{P}val/val_annotations.txt"

Members = dict[str, bytes]
Archive = Callable[[], Path]
Prepare = Callable[..., PreparedReport]


@pytest.fixture
def prepare(archive: Archive, tmp_path: Path) -> Prepare:
    """Prepares the members as they are by then into an own data root."""
    return lambda **options: prepare_tiny_imagenet(archive=archive(), root=tmp_path / "data", **options)


@pytest.fixture
def refused(prepare: Prepare, tmp_path: Path, samples) -> Callable[..., ResattnError]:
    """The error of a prepare that has to fail; checks that nothing is left behind."""

    def attempt(**options: bool) -> ResattnError:
        with pytest.raises(ResattnError) as caught:
            prepare(**options)
        assert samples.below(tmp_path / "data") == []
        return caught.value

    return attempt


def edit(name: str, old: bytes, new: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        assert old in members[name]
        members[name] = members[name].replace(old, new, 1)

    return change


def drop(name: str) -> Callable[[Members], None]:
    return lambda members: members.pop(name) and None


def put(name: str, content: bytes) -> Callable[[Members], None]:
    return lambda members: members.update({name: content})


def rename(old: str, new: str) -> Callable[[Members], None]:
    return lambda members: members.update({new: members.pop(old)})


LINE = f"{GOLDFISH}_10.JPEG\t10\t2\t53\t62\n".encode()
FAULTS = {
    "image cut short": (lambda m: m.update({TRAIN: m[TRAIN][:400]}), f"{TRAIN} is damaged or cut short ("),
    "no image": (put(TRAIN, b"hello"), f"{TRAIN} is not an image that Pillow can read"),
    "empty image": (put(TRAIN, b""), f"{TRAIN} is empty"),
    "box line missing": (edit(BOXES, LINE, b""), f"{BOXES} has no box for {GOLDFISH}_10.JPEG"),
    "box file missing": (drop(BOXES), f"{BOXES} is missing"),
    "box file not text": (put(BOXES, b"\xff\xfe"), f"{BOXES} is not UTF-8 ("),
    "box line garbled": (edit(BOXES, LINE, LINE[:-4] + b"\n"), f"{BOXES} line 1 has 4 columns, not 5"),
    "box not a number": (
        edit(BOXES, b"53\t62", b"5x\t62"),
        f"{BOXES} line 1 has no box of pixels 0 to 63: '10 2 5x 62'",
    ),
    "box outside": (
        edit(BOXES, b"53\t62", b"64\t62"),
        f"{BOXES} line 1 has no box of pixels 0 to 63: '10 2 64 62'",
    ),
    "box turned round": (
        edit(BOXES, b"53\t62", b"9\t62"),
        f"{BOXES} line 1 has no box of pixels 0 to 63: '10 2 9 62'",
    ),
    "box of no image": (
        drop(TRAIN),
        f"{BOXES} line 5 is about '{GOLDFISH}_3.JPEG', which is not in the archive",
    ),
    "box twice": (edit(BOXES, LINE, LINE * 2), f"{BOXES} line 2 is about {GOLDFISH}_10.JPEG a second time"),
    "annotation missing": (
        edit(ANNOTATIONS, b"val_0.JPEG", b""),
        f"{ANNOTATIONS} line 1 is about '', which is not in",
    ),
    "annotation line gone": (
        lambda m: m.update({ANNOTATIONS: m[ANNOTATIONS].partition(b"\n")[2]}),
        f"{P}val/images/val_0.JPEG has no line in val/val_annotations.txt",
    ),
    "unknown class in annotation": (
        edit(ANNOTATIONS, GOLDFISH.encode(), b"n00000000"),
        f"{ANNOTATIONS} line 1 has the unknown class id 'n00000000', not in wnids.txt",
    ),
    "unknown class folder": (
        put(f"{P}train/n00000000/images/n00000000_0.JPEG", b""),
        f"{P}train/n00000000/images/n00000000_0.JPEG is of the unknown class id n00000000, not in wnids.txt",
    ),
    "misnamed image": (
        rename(TRAIN, TRAIN.replace("_3.", "_x.")),
        f"{TRAIN.replace('_3.', '_x.')} should be named {GOLDFISH}_NUMBER.JPEG",
    ),
    "image of another class": (
        rename(f"{P}train/{LEMON}/images/{LEMON}_0.JPEG", f"{P}train/{GOLDFISH}/images/{LEMON}_0.JPEG"),
        f"{P}train/{GOLDFISH}/images/{LEMON}_0.JPEG should be named {GOLDFISH}_NUMBER.JPEG",
    ),
    "name missing": (
        edit(f"{P}words.txt", b"lemon", b""),
        f"{P}words.txt line 4 is not a class id, a tab and a name",
    ),
    "words missing": (drop(f"{P}words.txt"), f"{P}words.txt is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_or_line_is_named(
    refused: Callable[..., ResattnError], members: Members, tmp_path: Path, fault: str
) -> None:
    spoil, message = FAULTS[fault]
    spoil(members)
    error = refused()
    assert error.what.startswith(f"{tmp_path}/tiny-imagenet-200.zip: {message}")
    assert error.mend == (
        "get the archive again with `resattn prepare tiny-imagenet --download`, "
        "or leave out what is bad with --skip-bad"
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_skip_bad_leaves_out_the_one_and_keeps_the_rest(
    prepare: Prepare, members: Members, tmp_path: Path, fault: str
) -> None:
    spoil, message = FAULTS[fault]
    spoil(members)
    report = prepare(skip_bad=True)
    assert report.skipped[0].startswith(f"{tmp_path}/tiny-imagenet-200.zip: {message}")
    assert 35 <= report.images["train"] <= 36
    assert 5 <= report.images["val"] <= 6
    assert len(report.skipped) <= 4
    train = open_split("tiny-imagenet", root=tmp_path / "data")
    assert train.boxes is not None
    for file_name, label, box in zip(train.file_names, train.labels, train.boxes, strict=True):
        assert file_name.startswith(train.class_ids[label])
        assert np.isnan(box).all() or box[3] == 63 - label


def test_skip_bad_counts_each_image(prepare: Prepare, members: Members) -> None:
    for image in (0, 4, 7):
        members[f"{P}train/{LEMON}/images/{LEMON}_{image}.JPEG"] = b"no image"
    members[f"{P}val/images/val_2.JPEG"] = members[f"{P}val/images/val_2.JPEG"][:300]
    report = prepare(skip_bad=True)
    assert report.images == {"train": 33, "val": 5, "test": 3}
    assert [line.rpartition("/")[2].partition(" ")[0] for line in report.skipped] == [
        f"{LEMON}_0.JPEG",
        f"{LEMON}_4.JPEG",
        f"{LEMON}_7.JPEG",
        "val_2.JPEG",
    ]
    assert report.boxes == {"train": 33, "val": 5, "test": 0}


STRUCTURE = {
    "no wnids": (drop(f"{P}wnids.txt"), "{zip} is not the Tiny ImageNet archive: it holds no wnids.txt"),
    "two wnids": (
        put("x/wnids.txt", b"n1\n"),
        "{zip} is not the Tiny ImageNet archive: it holds several wnids.txt (",
    ),
    "empty wnids": (
        put(f"{P}wnids.txt", b"\n\n"),
        "{zip}: {P}wnids.txt is damaged: it has to hold one class id a line",
    ),
    "repeated wnid": (
        edit(f"{P}wnids.txt", LEMON.encode(), GOLDFISH.encode()),
        "{zip}: {P}wnids.txt is damaged",
    ),
    "class without images": (
        put(f"{P}wnids.txt", f"{GOLDFISH}\n{SALAMANDER}\n{LEMON}\nn00001740\n".encode()),
        "{zip}: {P}train/n00001740/images holds no images of the class id n00001740",
    ),
    "path traversal": (
        put("../../evil.JPEG", b"x"),
        "{zip}: the member '../../evil.JPEG' leads out of the archive",
    ),
    "absolute path": (put("/etc/passwd", b"x"), "{zip}: the member '/etc/passwd' leads out of the archive"),
    "windows path": (
        put("C:\\evil.JPEG", b"x"),
        "{zip}: the member 'C:\\\\evil.JPEG' leads out of the archive",
    ),
    "windows parent": (
        put("a\\..\\..\\b", b"x"),
        "{zip}: the member 'a\\\\..\\\\..\\\\b' leads out of the archive",
    ),
}


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("fault", STRUCTURE)
def test_an_archive_that_is_wrong_as_a_whole_is_refused_even_with_skip_bad(
    refused: Callable[..., ResattnError], members: Members, tmp_path: Path, fault: str, skip_bad: bool
) -> None:
    spoil, message = STRUCTURE[fault]
    spoil(members)
    error = refused(skip_bad=skip_bad)
    assert error.what.startswith(message.format(zip=tmp_path / "tiny-imagenet-200.zip", P=P))
    assert error.mend in (
        "get the archive again with `resattn prepare tiny-imagenet --download`",
        "do not trust this archive; get the official one",
    )


def test_a_split_without_one_whole_image(refused: Callable[..., ResattnError], members: Members) -> None:
    for image in range(6):
        members[f"{P}val/images/val_{image}.JPEG"] = b"no image"
    assert refused(skip_bad=True).what.endswith("not one of the 6 val images is whole")


def test_an_image_that_is_twice_in_the_archive(tmp_path: Path, members: Members, samples) -> None:
    path = samples.write_zip(tmp_path / "twice.zip", [*members.items(), (TRAIN, samples.encode(7))])
    with pytest.raises(ResattnError, match=f"{GOLDFISH}_3.JPEG is in the archive more than once"):
        prepare_tiny_imagenet(archive=path, root=tmp_path / "data")
    assert prepare_tiny_imagenet(archive=path, root=tmp_path / "data", skip_bad=True).images["train"] == 36


@pytest.mark.parametrize("name", [BOXES, f"{P}wnids.txt", ANNOTATIONS])
def test_a_list_that_is_twice_in_the_archive(tmp_path: Path, members: Members, samples, name: str) -> None:
    path = samples.write_zip(tmp_path / "twice.zip", [*members.items(), (name, members[name])])
    with pytest.raises(ResattnError, match=f"{name} is in the archive more than once"):
        prepare_tiny_imagenet(archive=path, root=tmp_path / "data")


@pytest.mark.parametrize(("name", "limit"), [(TRAIN, 2**20), (f"{P}words.txt", 4 * 2**20)])
def test_a_member_larger_than_any_of_its_kind(
    refused: Callable[..., ResattnError], members: Members, name: str, limit: int
) -> None:
    members[name] = bytes(limit + 1)
    assert refused().what.endswith(f"{name} declares {limit + 1:,} bytes, over the limit of {limit:,}")


def test_an_image_of_another_size(prepare: Prepare, members: Members, samples) -> None:
    members[TRAIN] = samples.encode(1, side=32)
    with pytest.raises(ResattnError, match=f"{TRAIN} has 32 x 32 pixels, not 64 x 64"):
        prepare()


def test_a_png_that_calls_itself_jpeg(prepare: Prepare, members: Members, samples) -> None:
    members[TRAIN] = samples.encode(1, kind="PNG")
    with pytest.raises(ResattnError, match=f"{TRAIN} is not an image that Pillow can read"):
        prepare()


def test_a_flipped_byte_is_noticed_by_the_checksum(
    archive: Archive, members: Members, tmp_path: Path
) -> None:
    path = archive()
    content = bytearray(path.read_bytes())
    content[content.index(members[TRAIN]) + 500] ^= 4
    path.write_bytes(content)
    with pytest.raises(ResattnError) as caught:
        prepare_tiny_imagenet(archive=path, root=tmp_path / "data")
    assert caught.value.what == f"{path}: {TRAIN} is damaged in the archive (Bad CRC-32 for file {TRAIN!r})"


@pytest.mark.parametrize("part", [0, 10, 0.5, 0.99])
def test_an_archive_that_is_cut_short(archive: Archive, tmp_path: Path, part: float) -> None:
    path = archive()
    content = path.read_bytes()
    path.write_bytes(content[: int(part if part > 1 else part * len(content))])
    with pytest.raises(ResattnError) as caught:
        prepare_tiny_imagenet(archive=path, root=tmp_path / "data")
    assert caught.value.what == f"{path} is not a whole zip archive (File is not a zip file)"
    assert caught.value.mend == "get the archive again with `resattn prepare tiny-imagenet --download`"


def test_no_archive_at_all(tmp_path: Path) -> None:
    with pytest.raises(ResattnError) as caught:
        prepare_tiny_imagenet(archive=tmp_path / "absent.zip", root=tmp_path)
    assert caught.value.what == f"{tmp_path}/absent.zip: there is no such file"
    with pytest.raises(ResattnError, match="is a folder, not a zip archive"):
        prepare_tiny_imagenet(archive=tmp_path, root=tmp_path)
    with pytest.raises(ResattnError, match=r"^say where tiny-imagenet-200\.zip comes from"):
        prepare_tiny_imagenet(root=tmp_path)
    with pytest.raises(ResattnError, match="exclude each other"):
        prepare_tiny_imagenet(archive=tmp_path / "x.zip", download=True, root=tmp_path)


def test_a_failed_prepare_keeps_the_data_set_that_was_there(
    prepare: Prepare, members: Members, tmp_path: Path, samples
) -> None:
    prepare()
    before = samples.below(tmp_path / "data")
    members[f"{P}test/images/test_2.JPEG"] = b"no image"
    with pytest.raises(ResattnError):
        prepare()
    assert samples.below(tmp_path / "data") == before
    assert len(open_split("tiny-imagenet", "test", root=tmp_path / "data").images) == 3
