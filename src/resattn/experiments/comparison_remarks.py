"""What a reader has to know before believing the figures of a comparison."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from resattn.experiments.comparison import Comparison
from resattn.experiments.comparison_numbers import RunRecord
from resattn.experiments.network_cost import training_cost
from resattn.experiments.wording import short_commit
from resattn.training.recipe import parse_duration

# Training that took longer than its budget by more than this is told, or shorter by as much.
OVERTIME = 1.05
# Arms of equal steps that cost more than this many times what they are compared with, or less by as much, are told.
DEARER = 1.05
# What the runs of a comparison should have in common, and what it is called in their origin.
SAME = {
    "commits": "commit",
    "processors": "cpu",
    "numbers of threads": "threads",
    "devices": "device",
    "number formats": "precision",
    "versions of torch": "torch",
    "versions of resattn": "resattn",
}


def remarks(
    comparison: Comparison,
    records: Sequence[RunRecord],
    *,
    apart: Sequence[str] = (),
    elsewhere: Mapping[str, str] | None = None,
) -> list[str]:
    """A sentence or two for each thing that makes the runs unlike each other, or the comparison incomplete.

    `apart` are arms whose steps were measured apart from the control's, `elsewhere` those measured beside it on another
    machine, and which.
    """
    left = [each for each in records if each.state in ("unfinished", "missing")]
    return [
        *_costs(comparison),
        *_measured_apart(apart),
        *_measured_elsewhere(elsewhere or {}),
        *_differences(records),
        *_uncommitted(records),
        *(
            f"{each.arm}, seed {each.seed}: its loss or output stopped being finite; it has no part in the means."
            for each in records
            if each.state == "diverged"
        ),
        *_drift(comparison, [each for each in records if each.state == "finished"]),
        *([f"{len(left)} of {len(records)} runs are not finished."] if left else []),
    ]


def _costs(comparison: Comparison) -> list[str]:
    """Arms that make the steps of those they are compared with at another cost."""
    if comparison.equal != "steps":
        return []
    macs = {arm: training_cost(recipe) for arm, recipe in comparison.recipes.items()}
    told = [
        f'"{arm}" {macs[arm] / macs[other]:.2f} of "{other}"'
        for arm, others in comparison.against.items()
        for other in others
        if not 1 / DEARER <= macs[arm] / macs[other] <= DEARER
    ]
    if not told:
        return []
    return [f"Steps are equal, their multiply-accumulates are not: {'; '.join(told)}."]


def _measured_apart(arms: Sequence[str]) -> list[str]:
    """Arms whose equal time may be the time of another machine."""
    if not arms:
        return []
    told = ", ".join(f'"{arm}"' for arm in arms)
    return [
        f"The steps of {told} were measured for other comparisons, apart from the control's: whether the machine was "
        "then as fast is not known. Compare in a folder without their steps-in-time.json to measure them in turns."
    ]


def _measured_elsewhere(machines: Mapping[str, str]) -> list[str]:
    """Arms that make as many steps beside the control's as another machine would."""
    if not machines:
        return []
    told = ", ".join(f'"{arm}" ({machine})' for arm, machine in machines.items())
    return [
        f"The steps of {told} were measured on another machine than the control's: how many they are beside the "
        "control's is that machine's word. Compare in a folder without steps-in-time.json to measure all on one."
    ]


def _uncommitted(records: Sequence[RunRecord]) -> list[str]:
    """Runs whose code no commit holds."""
    begun = [each for each in records if each.origin]
    changed = sum(any(commit.endswith("+") for commit in _values("commit", each)) for each in begun)
    if not changed:
        return []
    return [f"{changed} of {len(begun)} runs were made with changes to the code that are in no commit."]


def _differences(records: Sequence[RunRecord]) -> list[str]:
    """Where the runs come from, as far as that is not the same for all."""
    found = []
    begun = [each for each in records if each.origin]
    for what, name in SAME.items():
        met = Counter(_values(name, each) for each in begun)
        several = len({value for values in met for value in values})
        if several > 1:
            told = ", ".join(f"{' then '.join(values)} ({count})" for values, count in met.items())
            found.append(f"The runs are of {several} {what}: {told}.")
    return found


def _values(name: str, record: RunRecord) -> tuple[str, ...]:
    """What a run began with and then went on with, each value once."""
    return tuple(dict.fromkeys(_short(name, each) for each in (record.origin, *record.sittings)))


def _drift(comparison: Comparison, finished: Sequence[RunRecord]) -> list[str]:
    """Runs that took longer or shorter than the time their steps were measured to fit into."""
    if comparison.time is None:
        return []
    asked = parse_duration(comparison.time) / 60
    # Where something else is equal, only the control's steps were measured.
    whose, measured = "runs", finished
    if comparison.equal != "time":
        whose = f'runs of "{comparison.control}"'
        measured = [each for each in finished if each.arm == comparison.control]
    off = [each for each in measured if not asked / OVERTIME <= each.minutes <= OVERTIME * asked]
    if not off:
        return []
    ends = [choose(off, key=lambda run: run.minutes) for choose in (min, max)]
    told = " to ".join(f"{each.minutes:.1f} ({each.arm}, seed {each.seed})" for each in ends[: len(off)])
    return [
        f"{len(off)} of {len(measured)} {whose} took {told} minutes instead of the {asked:.1f} they were measured for: "
        "the machine had other cores, other work or another speed. Lengths are kept in steps, as they were measured."
    ]


def _short(name: str, origin: Mapping[str, Any]) -> str:
    if name == "commit":
        return short_commit(origin.get(name))
    if name in ("torch", "resattn"):
        return str((origin.get("versions") or {}).get(name))
    return str(origin.get(name))
