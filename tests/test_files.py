import subprocess
import sys
from pathlib import Path

import pytest

from resattn.errors import ResattnError
from resattn.files import whole_file, whole_text_file


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "notes.txt"
    for text in ("first\n", "second: ümläut\n"):
        with whole_text_file(path) as file:
            file.write(text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_where_it_was_one_of_this_machine(
    modules_alone: str, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    write = modules_alone + "import os, pathlib; from resattn.files import whole_file\n"
    write += "with whole_file(pathlib.Path(sys.argv[1])) as file:\n"
    write += "    file.touch(); print(file, flush=True); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", write, str(path)], capture_output=True, text=True)
    leftover = Path(killed.stdout.strip())
    assert leftover.exists()
    number = leftover.name.split(".")[-2]
    of_another = tmp_path / f".notes.txt.another-machine.{number}.partial"
    of_another.touch()
    with whole_text_file(path) as file:
        file.write("whole")
    assert set(tmp_path.iterdir()) == {path, of_another}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def write() -> None:
        with whole_text_file(tmp_path / "file" / "notes.txt") as file:
            file.write("text")

    with pytest.raises(ResattnError, match=r"cannot write .*notes\.txt"):
        write()
