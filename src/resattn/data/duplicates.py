"""Files that are in a data set more than once: noted, because they make a validation look better than it is."""

from collections import defaultdict


class SeenFiles:
    """Which contents were seen in which splits and classes."""

    def __init__(self) -> None:
        self._places: defaultdict[bytes, set[tuple[str, int]]] = defaultdict(set)
        self._held_back: defaultdict[str, list[bytes]] = defaultdict(list)

    def add(self, digest: bytes, *, split: str, label: int) -> None:
        """Note an image by the hash of its file."""
        self._places[digest].add((split, label))
        if split != "train":
            self._held_back[split].append(digest)

    def notes(self) -> list[str]:
        """A line for each split that shares files with train, and one on files that are in several classes."""
        trained_on = {
            digest for digest, places in self._places.items() if any(s == "train" for s, _ in places)
        }
        lines = []
        for split, digests in self._held_back.items():
            if shared := sum(digest in trained_on for digest in digests):
                lines.append(
                    f"{shared:,} of {len(digests):,} images of {split} are the same files as images of train: "
                    "its accuracy will look better than it is"
                )
        classes = (len({label for _, label in places if label >= 0}) for places in self._places.values())
        if several := sum(count > 1 for count in classes):
            lines.append(f"files that are in more than one class: {several:,}")
        return lines
