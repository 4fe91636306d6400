"""Which files of a folder tree are images of which class and split, before one of them is opened."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from resattn.data.decoding import image_suffixes
from resattn.data.faults import Faults
from resattn.errors import ResattnError

# What folders of splits are called, in lower case.
_SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Words by which a name looks like that of a split, such as seg_train or test-set.
_LOOKS_LIKE_SPLIT = re.compile(r"(^|[^a-z])(train|training|val|valid|validation|test|testing|pred)($|[^a-z])")
_CLUTTER = ("thumbs.db", "desktop.ini")


class PlannedFile(NamedTuple):
    """An image file, its label (-1: none) and its name: the path below its split's folder."""

    path: Path
    label: int
    file_name: str


@dataclass
class FolderLayout:
    """Sorted class ids (the folders' names), the files of each split in order, and what is unusual."""

    class_ids: tuple[str, ...]
    splits: dict[str, list[PlannedFile]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_folder(path: Path, faults: Faults, *, val_share: float, seed: int) -> FolderLayout:
    """Find the classes and files of a class-per-folder tree, or of one with train/ and others beside it.

    The tree has splits where `path` has a folder train/ (or training/) with class folders in it and every other
    folder is named val, valid, validation, test or testing; otherwise each folder in `path` is a class. Without a
    validation folder, `val_share` of each class becomes the validation split. Class folders are walked to any depth.
    Raises ResattnError, also where splits and other folders lie side by side.
    """
    layout = _read_layout(path, faults, val_share=val_share, seed=seed)
    layout.notes += passed_over_note(faults)
    return layout


def passed_over_note(faults: Faults) -> list[str]:
    """A note on files with a suffix that no image has, if there are any."""
    if not faults.passed_over:
        return []
    names = ", ".join(faults.passed_over[:3]) + (", ..." if len(faults.passed_over) > 3 else "")
    return [f"{len(faults.passed_over)} files are no images by their names: {names}"]


def _read_layout(path: Path, faults: Faults, *, val_share: float, seed: int) -> FolderLayout:
    _require_folder(path)
    folders = _subfolders(path)
    trees: dict[str, list[Path]] = {}
    for folder in folders:
        if split := _SPLIT_OF.get(folder.name.lower()):
            trees.setdefault(split, []).append(folder)
    split_folders = sorted(folder.name for found in trees.values() for folder in found if _subfolders(folder))
    if not split_folders:
        _require_no_splits(path, folders)
        return _share_out(_labelled(path, faults), val_share, seed)
    strange = sorted(folder.name for folder in folders if folder.name.lower() not in _SPLIT_OF)
    if "train" not in {_SPLIT_OF[name.lower()] for name in split_folders} or strange:
        beside = f"beside {', '.join(strange[:3])}" if strange else "and no train"
        raise ResattnError(
            f"{path} has {', '.join(split_folders)} with folders of their own {beside}: splits or classes?",
            f"make the splits {path}/train/CLASS and {path}/val/CLASS, or keep class folders only",
        )
    if any(len(found) > 1 for found in trees.values()):
        names = ", ".join(folder.name for folder in folders)
        raise ResattnError(f"{path} has more than one folder for the same split: {names}", "keep one of them")
    layout = _labelled(trees["train"][0], faults)
    if "val" in trees:
        layout.splits["val"] = _same_classes(trees["val"][0], layout, faults)
    else:
        layout = _share_out(layout, val_share, seed)
    if "test" in trees:
        layout.splits["test"] = _test(trees["test"][0], layout, faults)
    return layout


def _require_no_splits(path: Path, folders: list[Path]) -> None:
    """Raise ResattnError where all folders are called like splits, and some have folders: those are the classes."""
    called_so = all(_LOOKS_LIKE_SPLIT.search(folder.name.lower()) for folder in folders)
    if called_so and any(_subfolders(folder) for folder in folders):
        names = ", ".join(folder.name for folder in folders)
        raise ResattnError(
            f"{path} has {names}, with folders of their own: splits or classes?",
            f"call splits {path}/train and {path}/val, or call classes otherwise",
        )


def read_known_classes(path: Path, label_of: Callable[[str], int], faults: Faults) -> list[PlannedFile]:
    """The files of a class-per-folder tree where `label_of` says the label of a folder by its name.

    Folders without images need no class. Raises what `label_of` raises, naming the folder, and ResattnError where there
    are no images, or where folders are splits.
    """
    _require_folder(path)
    folders = _subfolders(path)
    splits = [folder for folder in folders if folder.name.lower() in _SPLIT_OF and _subfolders(folder)]
    if splits and len(splits) == len(folders):
        raise ResattnError(
            f"{path} has {', '.join(folder.name for folder in splits)}, with folders of their own, where class folders "
            "are expected",
            f"name one of them: {splits[-1]}",
        )
    planned = []
    for folder in folders:
        files = list(_walk(folder, path, faults))
        if not files:
            faults.found(str(folder), "holds no images")
            continue
        try:
            label = label_of(folder.name)
        except ResattnError as error:
            raise ResattnError(f"{folder}: {error.what}", error.mend) from error
        planned += [PlannedFile(file, label, name) for file, name in files]
    if not planned:
        raise ResattnError(f"{path} holds no images in class folders", f"put them into {path / 'CLASS'}")
    return planned


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise ResattnError(f"{path} {what}", "give a folder that holds one folder of images for each class")


def _labelled(root: Path, faults: Faults) -> FolderLayout:
    files = {folder.name: list(_walk(folder, root, faults)) for folder in _subfolders(root)}
    for name in [name for name, found in files.items() if not found]:
        faults.found(str(root / name), "holds no images")
        del files[name]
    if len(files) < 2:
        inside = [root / name for name in files if len(_subfolders(root / name)) > 1]
        raise ResattnError(
            f"{root} holds {len(files)} class folders with images; at least two are needed",
            f"are the classes those in {inside[0]}? Then name that one"
            if inside
            else f"put the images of each class into a folder of its own, named after the class: {root / 'CLASS'}",
        )
    layout = FolderLayout(tuple(sorted(files)))
    layout.splits["train"] = [
        PlannedFile(path, label, name)
        for label, identity in enumerate(layout.class_ids)
        for path, name in files[identity]
    ]
    layout.notes += loose(root)
    return layout


def _same_classes(root: Path, layout: FolderLayout, faults: Faults) -> list[PlannedFile]:
    """The files of a tree whose class folders have to be among those of the train folder."""
    label = {identity: index for index, identity in enumerate(layout.class_ids)}
    planned, strangers = [], []
    for folder in _subfolders(root):
        if folder.name not in label:
            faults.found(str(folder), "is no class of the train folder")
            strangers.append(folder.name)
            continue
        planned += [PlannedFile(path, label[folder.name], name) for path, name in _walk(folder, root, faults)]
    if not planned and strangers:
        raise ResattnError(
            f"{root} holds no images of the train folder's classes: {', '.join(strangers[:3])} is none of them",
            f"call its folders as those of the train folder: {', '.join(layout.class_ids[:3])}",
        )
    if not planned:
        raise ResattnError(f"{root} holds no images in class folders", f"fill it, or remove it: {root}")
    layout.notes += loose(root)
    return planned


def _test(root: Path, layout: FolderLayout, faults: Faults) -> list[PlannedFile]:
    """Labelled where it has class folders of the train tree and nothing else, unlabelled otherwise."""
    names = {folder.name for folder in _subfolders(root)}
    if names and names <= set(layout.class_ids) and not loose(root):
        return _same_classes(root, layout, faults)
    planned = [PlannedFile(path, -1, name) for path, name in _walk(root, root, faults)]
    if not planned:
        raise ResattnError(f"{root} holds no images", f"fill it, or remove it: {root}")
    layout.notes.append(f"test: unlabelled, because {root} is not made of the same class folders as train")
    return planned


def _share_out(layout: FolderLayout, val_share: float, seed: int) -> FolderLayout:
    """Move `val_share` of each class, one image at least and never all of them, from train to val.

    Which ones depends on the seed and the files' names alone, by a hash: it is the same on every platform,
    and adding files moves few of the others.
    """
    if not val_share:
        layout.notes.append("no validation split: --val-share is 0")
        return layout
    by_class: dict[int, list[PlannedFile]] = {}
    for file in layout.splits["train"]:
        by_class.setdefault(file.label, []).append(file)
    chosen: set[str] = set()
    for label, files in by_class.items():
        count = min(len(files) - 1, max(1, round(val_share * len(files))))
        if not count:
            layout.notes.append(f"{layout.class_ids[label]}: its only image is kept for training")
        chosen.update(sorted((file.file_name for file in files), key=lambda name: _draw(seed, name))[:count])
    train = layout.splits["train"]
    layout.splits = {"train": [file for file in train if file.file_name not in chosen]}
    validation = [file for file in train if file.file_name in chosen]
    if validation:
        layout.splits["val"] = validation
    return layout


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()


def _subfolders(root: Path) -> list[Path]:
    """The visible folders in `root`, links to folders included, sorted by name."""
    return sorted(path for path in _entries(root) if path.is_dir() and not _is_hidden(path))


def _walk(
    folder: Path, root: Path, faults: Faults, above: tuple[str, ...] = ()
) -> Iterator[tuple[Path, str]]:
    """The visible files below `folder`, sorted, and their names below `root`; links are followed.

    Files with a suffix that no image has are passed over: labels and notes beside images are no bad images.
    """
    here = os.path.realpath(folder)
    if here in above:
        faults.found(str(folder), "is a link to a folder that it is in")
        return
    for path in sorted(_entries(folder)):
        if _is_hidden(path):
            continue
        if path.is_dir():
            yield from _walk(path, root, faults, (*above, here))
        elif path.suffix and path.suffix.lower() not in image_suffixes():
            faults.passed_over.append(path.relative_to(root).as_posix())
        else:
            yield path, path.relative_to(root).as_posix()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ResattnError(
            f"{folder} cannot be read ({error.strerror})", "allow yourself to read it, or remove it"
        ) from error


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _CLUTTER or path.name == "__MACOSX"


def loose(root: Path) -> list[str]:
    """A note on visible files that lie beside the class folders, if there are any."""
    files = sorted(path.name for path in _entries(root) if not path.is_dir() and not _is_hidden(path))
    if not files:
        return []
    names = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return [f"{len(files)} files beside the class folders of {root} were not read: {names}"]
