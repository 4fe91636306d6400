"""What a run's folder records of where it comes from."""

import subprocess
from pathlib import Path

import pytest

from resattn.training import run_folder


def test_the_commit_is_that_of_this_code_when_it_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    source = tmp_path / "resattn" / "training" / "run_folder.py"
    source.parent.mkdir(parents=True)
    source.write_text("")
    git("init")
    git("commit", "--allow-empty", "-m", "a user's own repository, which ignores its environment")
    monkeypatch.setattr(run_folder, "__file__", str(source))
    asked = run_folder._commit.__wrapped__
    assert asked() is None
    git("add", ".")
    git("commit", "-m", "the repository of this code")
    assert asked() == git("rev-parse", "HEAD")
    source.write_text("changed")
    assert asked() == git("rev-parse", "HEAD") + "+"
    run_folder._commit.cache_clear()
    try:
        loaded = run_folder._commit()
        git("commit", "-a", "-m", "while it runs")
        assert run_folder._commit() == loaded != asked()
    finally:
        run_folder._commit.cache_clear()  # what other tests of this process record is not of this repository
