"""What a study keeps, in two kinds of storage: whose a trial is, which is ended, and what is no such study."""

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from toy_study import TINY, plan_of

from resattn.data.augmentation import Augmentation
from resattn.data.packed import open_split
from resattn.errors import CannotWrite, ResattnError
from resattn.experiments import study_storage
from resattn.experiments.study_storage import StudyStorage, finished, open_study
from resattn.experiments.trial_record import run_name


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("storage", [None, "sqlite:///study.db"])
def test_a_dead_processs_trial_goes_to_the_next_and_a_living_ones_does_not(
    dots: str,
    held: ExitStack,
    storage: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def claim(study: StudyStorage, until: ExitStack) -> Any:
        trial = study.claim(2, until)
        assert trial is not None
        return trial.number, dict(trial.params)

    with open_study(plan_of(2, storage=storage)) as one, open_study(plan_of(2, storage=storage)) as other:
        with ExitStack() as dying:
            first = claim(one, dying)
            second = claim(other, held)
            assert (first[0], second[0]) == (0, 1)
            assert first[1] != second[1]
            assert other.claim(2, held) is None
        assert claim(other, held) == first
        assert other.claim(2, held) is None
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with open_study(plan_of(2)) as alike:
        assert [claim(alike, held), claim(alike, held)] == [first, second]


@pytest.mark.parametrize(("pruner", "ended"), [("none", False), ("median", True), ("hyperband", True)])
def test_pruners_end_what_falls_behind(dots: str, pruner: Any, ended: bool) -> None:
    with open_study(plan_of(20, pruner=pruner)) as study:
        answers = []
        for number in range(12):
            with ExitStack() as held:
                trial = study.claim(20, held)
                assert trial is not None
                trial.report(1 - number / 20, step=1)
                answers.append(trial.should_prune())
                study.optuna_study.tell(trial, 1 - number / 20)
    assert any(answers) == ended
    assert not any(answers[:4]) or pruner == "hyperband"


def test_a_silent_machines_trial_is_begun_again_in_its_folder(
    dots: str, held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_storage, "GRACE_SECONDS", 1)
    plan = plan_of(2, storage="sqlite:///study.db")
    with open_study(plan) as study:
        with ExitStack() as dying:
            first = study.claim(2, dying)
            assert first is not None
        monkeypatch.setattr(StudyStorage, "_place", "another machine")
        assert study.claim(1, held) is None, "it was silent for a moment only"
        time.sleep(2.1)
        again = study.claim(1, held)
        assert again is not None
        assert (again.number, run_name(again), again.params) == (1, "trial-000", first.params)
        study.optuna_study.tell(again, 0.5)
        assert [trial.number for trial in finished(study.trials())] == [1]
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            first.report(0.5, step=1)
        assert [trial.state for trial in study.trials()] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_study_of_the_same_name_and_another_kind_is_refused(dots: str) -> None:
    with open_study(plan_of(1)):
        pass
    changed = TINY.replace(augmentation=Augmentation(shift=2))
    for plan, what in (
        (plan_of(1, recipe=changed), "begun otherwise: with shift: 4, and not with shift: 2"),
        (plan_of(1, search=["batch_size=6,8"]), "with label_smoothing: '0:0.3', and not with nothing"),
    ):
        with pytest.raises(ResattnError, match=what), open_study(plan):
            pass
    with open_study(plan_of(7, pruner="none")):
        pass
    Path("runs/tune/s/trial-000").mkdir()
    Path("runs/tune/s/trial-000/recipe.yaml").touch()
    with pytest.raises(ResattnError, match="kept elsewhere"), open_study(plan_of(1, storage="sqlite://")):
        pass


def test_a_study_of_other_images_under_the_same_name_is_refused(dots: str) -> None:
    with open_study(plan_of(1)) as study:
        begun = study.optuna_study.user_attrs["inputs"]
        assert begun == {"data dots": [open_split(dots).source_sha256, 16]}
    with open_study(plan_of(1)) as study:
        study.optuna_study.set_user_attr("inputs", {"data dots": ["of other files", 16]})
    with (
        pytest.raises(ResattnError, match="the study s was begun with other data dots: trials of both"),
        open_study(plan_of(1)),
    ):
        pass


def test_a_disk_that_refuses_the_journal_is_told(dots: str, held: ExitStack) -> None:
    with open_study(plan_of(1)) as study:
        size = (study.folder / "journal.log").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            with pytest.raises(CannotWrite, match=r"cannot write .*journal\.log: File too large"):
                study.claim(1, held)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with open_study(plan_of(1)) as study:
        assert study.claim(1, held) is not None


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("nonsense", "Could not parse"),
        ("oracle://me:secret@host/x", "me:***@host"),
        ("sqlite:////none/at/all.db", "unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_told_without_its_password(
    dots: str, storage: str, told: str
) -> None:
    with pytest.raises(ResattnError) as caught, open_study(plan_of(1, storage=storage)):
        pass
    assert told in caught.value.what
    assert "secret" not in str(caught.value)
