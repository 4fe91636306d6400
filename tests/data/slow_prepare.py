"""A real `prepare` in a process of its own, to be killed in the middle of writing or to meet a full disk.

Arguments: the source folder of the package, archive, data root, and "slow" (prints a line for each image it
writes, and takes its time) or "small-files" (the system lets no file grow beyond 100,000 bytes).
"""

import importlib
import resource
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any


def main(source: Path, archive: Path, root: Path, behaviour: str) -> None:
    # A shell that started the tests in the background has told all below it to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The package itself imports torch, which takes seconds and is not needed to prepare data.
    package = types.ModuleType("resattn")
    package.__path__ = [str(source)]
    sys.modules["resattn"] = package
    packing = importlib.import_module("resattn.data.packing")
    tiny_imagenet = importlib.import_module("resattn.data.tiny_imagenet")
    if behaviour == "small-files":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    else:
        make_slow(packing.SplitWriter)
    try:
        tiny_imagenet.prepare_tiny_imagenet(archive=archive, root=root)
    except sys.modules["resattn.errors"].ResattnError as error:
        print(error)
        sys.exit(1)


def make_slow(writer: Any) -> None:
    add = writer.add

    def slow_add(self: Any, *arguments: Any, **named: Any) -> None:
        add(self, *arguments, **named)
        self._file.flush()
        print("writing", flush=True)
        time.sleep(0.2)

    writer.add = slow_add


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
