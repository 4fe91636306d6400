"""The one kind of failure a user is meant to read: what was wrong, where, and the command that mends it."""


class ResattnError(Exception):
    """A failure with a cause a user can act on.

    `what` names the file, field or value that was wrong; `mend` is the command or act that puts it right (may be
    empty where there is none). The command line prints both and exits with status 1; no traceback is shown.
    """

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(f"{what}\n  mend: {mend}" if mend else what)
        self.what = what
        self.mend = mend


class NotFinite(ResattnError):
    """A loss or an output became infinite or no number, as it would again."""


class CannotWrite(ResattnError):
    """The disk refused: what was under way is no failure of its own, and can go on once that is mended."""
