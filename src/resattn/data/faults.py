"""What is done about one bad input: stop at the first, or skip it and list it."""

from typing import Literal

from resattn.errors import ResattnError


class Faults:
    """Collects bad inputs; with "stop" the first one ends the work, with "skip" each is listed in `skipped`.

    What is no input at all may be listed in `passed_over`.
    """

    def __init__(self, *, action: Literal["stop", "skip"], mend: str) -> None:
        self.skipped: list[str] = []
        self.passed_over: list[str] = []
        self._action = action
        self._mend = mend

    def found(self, where: str, why: str) -> None:
        """Report that the file (or line) `where` is bad; "stop" raises a ResattnError that names it."""
        if self._action == "stop":
            raise ResattnError(f"{where} {why}", self._mend)
        self.skipped.append(f"{where} {why}")
