"""Comparisons with real runs: reported and published, held equal, diverged, and not taken for others."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from toy_comparison import POOL, TOY, states, toy, without_length

from resattn.data.image_folder import prepare_image_folder
from resattn.errors import ResattnError
from resattn.evaluation import classification
from resattn.experiments.comparing import compare
from resattn.experiments.comparison import read_comparison
from resattn.experiments.comparison_file import SHIPPED, find_comparison
from resattn.experiments.held_equal import measured_elsewhere
from resattn.experiments.network_cost import training_cost
from resattn.experiments.planned_runs import planned_runs
from resattn.experiments.publishing import publish, results_page
from resattn.experiments.recipe_key import recipe_key
from resattn.models.loading import load
from resattn.models.weights import read_metadata, save_weights
from resattn.tables import print_comparison
from resattn.training.recipe import Recipe
from resattn.training.run import train
from resattn.training.task import Classification


def test_the_report_says_what_the_runs_say(dots: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = compare(toy())
    print_comparison(report)
    told = capsys.readouterr().out
    assert "Do masks help?" in told
    # A terminal of 80 characters, as here, has room for the names and the score.
    assert re.search(r"^ +plain +2 +5 +[\d.]+ +[\d.]+ ± [\d.]+ +[\d.]+ ± [\d.]+ *$", told, re.MULTILINE)
    content = json.loads((report.folder / "comparison.json").read_text())
    top1 = [
        json.loads((POOL / run["folder"] / "results.json").read_text())["top1"] for run in content["runs"]
    ]
    assert content["arms"][1]["top1"]["mean"] == pytest.approx((top1[1] + top1[3]) / 2)
    (difference,) = content["differences"]
    assert difference["top1"]["values"] == pytest.approx([top1[1] - top1[0], top1[3] - top1[2]])
    assert content["arms"][0]["epochs"] == 5 * 8 / 160
    page = (report.folder / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "src=" not in page and "<?xml" not in page and "@import" not in page
    for name in ("accuracy", "loss", "scores"):
        with Image.open(report.folder / f"{name}.png") as image:
            assert image.size[0] > 1000
    assert publish(report.folder, Path("docs")) == Path("docs/results.md")
    Path("docs/results/toy/conclusion.md").write_text("They do not say.\n")
    text = results_page(Path("docs"))
    assert "| masks | resattn_mini |" in text and "**Conclusion.** They do not say." in text
    for figure in ("accuracy", "loss", "scores"):
        assert f"![{figure}](results/toy/{figure}.png)" in text
        assert Path(f"docs/results/toy/{figure}.png").is_file()
    publish(report.folder, Path("docs"))
    assert "**Conclusion.**" in results_page(Path("docs"))
    with pytest.raises(ResattnError, match="holds no comparison"):
        publish(Path("docs"), Path("docs"))


def test_differences_of_differences_are_published_and_a_conclusion_about_other_figures_is_not(
    dots: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {**TOY["arms"], "hot": {"optimization.lr": 0.01}}
    against, contrasts = {"hot": ["masks", "plain"]}, {"more": ["masks", "plain", "hot", "plain"]}
    report = compare(toy(seeds=1, arms=arms, against=against, contrasts=contrasts))
    print_comparison(report)
    assert 'as ("masks" - "plain") - ("hot" - "plain"), won' in capsys.readouterr().out.replace("\n", " ")
    publish(report.folder, Path("docs"))
    text, page = Path("docs/results.md").read_text(), (report.folder / "report.html").read_text()
    assert '| more | ("masks" - "plain") - ("hot" - "plain") |' in text and "<td>more</td>" in page
    assert text.count("| hot | masks |") == text.count("| hot | plain |") == 1
    place, source = Path("docs/results/toy"), report.folder / "comparison.json"
    (place / "conclusion.md").write_text("One seed says nothing.\n")
    content = json.loads(source.read_text())
    content["runs"][0]["scores"]["top1"] += 0.01
    source.write_text(json.dumps(content))
    publish(report.folder, Path("docs"))
    assert "conclusion-of-earlier-runs.md: write it anew" in capsys.readouterr().err
    assert (place / "conclusion-of-earlier-runs.md").read_text() == "One seed says nothing.\n"
    (place / "conclusion.md").write_text("Nor does a point.\n")
    content["runs"][0]["scores"]["top1"] += 0.01
    source.write_text(json.dumps(content))
    publish(report.folder, Path("docs"))
    assert (place / "conclusion-of-earlier-runs.md").read_text() == "One seed says nothing.\n"
    assert (place / "conclusion-of-earlier-runs-2.md").read_text() == "Nor does a point.\n"
    assert "says nothing" not in Path("docs/results.md").read_text()
    del content["arms"][0]["epochs"]
    (place / "comparison.json").write_text(json.dumps(content))
    publish(report.folder, Path("docs"))
    (place.parent / "older").mkdir()
    (place.parent / "older" / "comparison.json").write_text(json.dumps(content))
    with pytest.raises(ResattnError, match=r"older/comparison\.json is of an earlier version"):
        publish(report.folder, Path("docs"))


def test_a_loss_that_is_not_finite_ends_its_run_and_is_told(
    dots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Classification.training_step

    def training_step(self, batch, batch_idx):
        factor = float("inf") if "mini_plain" not in self.recipe.model else 1.0
        return original(self, batch._replace(images=batch.images * factor), batch_idx)

    monkeypatch.setattr(Classification, "training_step", training_step)
    report = compare(toy(seeds=1))
    assert states(report) == [("plain", 0, "finished"), ("masks", 0, "diverged")]
    assert any(
        "masks, seed 0: its loss or output stopped being finite" in remark for remark in report.remarks
    )
    assert (report.arms[1].runs, report.arms[1].diverged, report.differences[0].seeds) == (0, 1, [])
    assert states(compare(toy(seeds=1))) == states(report)
    assert "0 + 1 diverged" in (report.folder / "report.html").read_text()


def test_weights_that_are_not_finite_in_evaluation_end_their_run_only(
    dots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(network, split):
        if network.variant == "resattn_mini":
            torch.nn.init.constant_(network.head.fc.weight, float("nan"))
        return classification.evaluate(network, split)

    monkeypatch.setattr("resattn.training.run.evaluate", evaluate)
    report = compare(toy(seeds=1, arms={**TOY["arms"], "hot": {"optimization.lr": 0.01}}))
    assert [state for _, _, state in states(report)] == ["finished", "diverged", "finished"]
    assert states(compare(toy(seeds=1, arms={**TOY["arms"], "hot": {"optimization.lr": 0.01}}))) == states(
        report
    )


def test_arms_and_files_may_be_called_what_markdown_reads_otherwise(dots: str) -> None:
    path = toy(seeds=1, arms={"a|b": {"model": "resattn_mini"}}) and Path("toy.yaml").rename("my toy.yaml")
    publish(compare(read_comparison(path)).folder, Path("docs"))
    text = Path("docs/results.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| a\\|b |")]
    assert [row.replace("\\|", "").count("|") for row in rows] == [13, 10]
    assert "](results/my%20toy/accuracy.png)" in text


def test_equal_multiply_accumulates_give_the_dearer_arm_fewer_steps(dots: str) -> None:
    fields = without_length()
    arms = {"small": {"model": "resattn_small_plain"}, "half": {"batch_size": 4}}
    runs = planned_runs(toy(fields={**fields, "epochs": 20}, arms=arms, equal="macs", seeds=1))
    control, small, half = (run.recipe for run in runs)
    # 160 images are trained on, 8 in a batch
    assert control.steps == 400 and half.steps == 800
    assert small.steps is not None and 2.9 < 400 / small.steps < 4
    assert small.steps * training_cost(small) == pytest.approx(400 * training_cost(control), rel=0.01)


def test_equal_time_is_measured_once_and_later_arms_beside_a_known_one(
    dots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = without_length()
    small = {"small": {"model": "resattn_small_plain"}}
    timed = toy(fields=fields, arms=small, equal="time", time="20s")
    # Seconds a step of plain and of small: the machine slows down in the second turn, and the third is disturbed.
    turns = [[0.01, 0.025], [0.03, 0.075], [0.02, 0.4]]
    monkeypatch.setattr("resattn.experiments.steps_in_time.measure_in_turns", lambda probes, budget: turns)
    steps = {run.arm: run.recipe.steps for run in planned_runs(timed)}
    assert steps == {"plain": 1000, "small": 400}
    assert {(run.arm, run.recipe.steps) for run in planned_runs(timed)} == set(steps.items())
    file = POOL / "steps-in-time.json"
    known = json.loads(file.read_text())
    assert {each["steps"] for each in known.values()} == set(steps.values())
    assert all("threads, cpu" in each["machine"] for each in known.values())
    # As if another machine, a hundred times as fast, had measured the control alone.
    key = recipe_key(timed.recipes["plain"].replace(time="20s"))
    file.write_text(json.dumps({key: {"steps": 100 * steps["plain"], "machine": "another"}}))
    there = {run.arm: run.recipe.steps for run in planned_runs(timed)}
    assert there == {"plain": 100_000, "small": 40_000}
    assert list(measured_elsewhere(timed, POOL)) == ["small"]
    monkeypatch.setattr("resattn.experiments.steps_in_time.measure_in_turns", None)
    equal = planned_runs(toy(fields=fields, equal="steps", time="20s", seeds=1))
    assert [run.recipe.steps for run in equal] == [there["plain"], there["plain"]]


def test_steps_that_were_measured_apart_are_told(dots: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {"small": {"model": "resattn_small_plain"}}
    fields = {**without_length(), "model": "resattn_mini_plain"}
    for model, seconds in (("resattn_mini_plain", 0.01), ("resattn_small_plain", 0.1)):
        turns = [[seconds]]
        monkeypatch.setattr(
            "resattn.experiments.steps_in_time.measure_in_turns", lambda probes, budget, t=turns: t
        )
        other = {"hot": {"optimization.lr": 0.01}}
        planned_runs(toy(fields={**fields, "model": model}, arms=other, equal="steps", time="0.05s"))
    monkeypatch.setattr("resattn.experiments.steps_in_time.measure_in_turns", None)
    report = compare(toy(fields=fields, arms=arms, equal="time", time="0.05s", seeds=1))
    assert [run.planned_steps for run in report.runs] == [5, 1]
    assert any('The steps of "small" were measured for other comparisons' in each for each in report.remarks)
    Path("runs/compare/runs/steps-in-time.json").unlink()
    monkeypatch.setattr(
        "resattn.experiments.steps_in_time.measure_in_turns", lambda probes, budget: [[0.01] * len(probes)]
    )
    report = compare(toy(fields=fields, arms=arms, equal="time", time="0.05s", seeds=1))
    assert not any("for other comparisons" in each for each in report.remarks)


def test_a_report_keeps_the_seeds_it_was_given(dots: str) -> None:
    wide = compare(read_comparison(toy() and Path("toy.yaml"), seeds=3))
    assert len(wide.runs) == 6
    again = compare(toy())
    assert (states(again), again.command) == (states(wide), "resattn compare toy.yaml --seeds=3")
    shutil.rmtree(POOL / again.runs[-1].folder)
    assert "1 of 6 runs are not finished." in compare(toy()).remarks
    # Of other runs it keeps nothing.
    assert len(compare(toy(fields={**TOY["fields"], "steps": 4})).runs) == 4


def test_a_run_of_which_a_part_is_gone_is_not_taken_for_done(dots: str) -> None:
    comparison = toy(seeds=1)
    folder = planned_runs(comparison)[0].folder
    compare(comparison)
    for path in (folder.metrics_file, folder.recipe_file, folder.environment_file):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(ResattnError, match=rf"a part of the run in .* is gone: its {path.name}"):
            compare(comparison)
        path.write_bytes(content)
    assert [run.state for run in compare(comparison).runs] == ["finished"] * 2
    folder.results_file.write_text("{")
    with pytest.raises(ResattnError, match=f"the run in {folder.path} cannot be read"):
        compare(comparison)


def test_names_in_square_brackets_are_printed_as_they_are(
    dots: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"lr [/2]": {"optimization.lr": 0.01}}
    print_comparison(compare(toy(question="Is [/b] better?", arms=arms, seeds=1)))
    told = capsys.readouterr().out
    assert "Is [/b] better?" in told and "lr [/2]" in told


def test_no_report_lies_among_the_runs(dots: str) -> None:
    toy()
    Path("toy.yaml").rename("runs.yaml")
    with pytest.raises(ResattnError, match="would lie among all runs"):
        planned_runs(read_comparison(Path("runs.yaml")))


def test_a_key_tells_recipes_apart_and_ignores_defaults() -> None:
    base = Recipe(data="dots", steps=3)
    assert recipe_key(base) == recipe_key(Recipe(data="dots", steps=3, label_smoothing=0.1))
    others = [base.replace(seed=1), base.replace(steps=4), base.replace(model_options={"drop_rate": 0.5})]
    assert len({recipe_key(recipe) for recipe in (base, *others)}) == 4


def test_a_folder_with_another_recipe_is_not_taken_for_the_run(dots: str) -> None:
    comparison = toy(seeds=1)
    folder = planned_runs(comparison)[0].folder
    train(planned_runs(comparison)[1].recipe, folder)
    with pytest.raises(ResattnError, match="holds a run by another recipe"):
        compare(comparison)


def test_what_is_missing_is_said_before_anything_is_trained(dots: str) -> None:
    with pytest.raises(ResattnError, match="resattn_min"):
        compare(toy(arms={"masks": {"model": "resattn_min"}}))
    assert not POOL.exists()


def test_the_published_results_are_the_generated_ones() -> None:
    docs = Path(__file__).parents[2] / "docs"
    assert (docs / "results.md").read_text(encoding="utf-8") == results_page(docs)


@pytest.mark.parametrize(
    "name",
    [
        # The study and the paper's in every suite, our own questions where it may take longer.
        pytest.param(name, marks=() if name.startswith(("study", "paper")) else pytest.mark.long)
        for name in sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    ],
)
def test_every_shipped_comparison_runs_with_two_arms_and_a_toy_budget(dots: str, name: str) -> None:
    path = find_comparison(name)
    first = next(iter(yaml.safe_load(path.read_text())["arms"]))
    toy_fields = [f"data={dots}", "batch_size=4", "start_scale=1", "precision=fp32"]
    report = compare(read_comparison(path, time="0.1s", seeds=1, fields=toy_fields, arms=[first]))
    assert [run.state for run in report.runs] == ["finished", "finished"]
    assert [run.steps for run in report.runs] == [run.planned_steps for run in report.runs]
    assert "0.1s" in report.held and "threads, cpu" in report.held
    assert (report.folder / "report.html").is_file()


def test_arms_that_begin_with_trained_weights_take_their_options(
    trained_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields = {**TOY["fields"], "model": "resattn_mini", "start_from": str(trained_dots.run), "steps": 2}
    comparison = toy(fields=fields, arms={"hot": {"optimization.lr": 0.01}}, seeds=1)
    assert comparison.recipes["hot"].model_options == {"mask_width": 8}
    assert states(compare(comparison)) == [("plain", 0, "finished"), ("hot", 0, "finished")]
    assert states(compare(comparison)) == [("plain", 0, "finished"), ("hot", 0, "finished")]


def test_runs_of_other_images_or_from_other_weights_are_not_taken_for_the_run(
    trained_dots, draw_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESATTN_HOME", str(tmp_path / "home"))
    images = draw_dots(tmp_path / "images", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=20, side=24)
    prepare_image_folder(images, name="dots", size=24, val_share=0.2)
    start = Path(shutil.copy(trained_dots.run / "weights.safetensors", tmp_path / "start.safetensors"))
    fields = {**TOY["fields"], "model": "resattn_mini", "start_from": str(start), "steps": 2}
    comparison = toy(fields=fields, arms={"hot": {"optimization.lr": 0.01}}, seeds=1)
    compare(comparison)
    network = load(start)
    torch.nn.init.zeros_(network.head.fc.bias)
    save_weights(start, network, metadata=read_metadata(start))
    with pytest.raises(ResattnError, match="has other weights than when the run in"):
        compare(comparison)
    shutil.copy(trained_dots.run / "weights.safetensors", start)
    (images / "red" / "0.png").unlink()
    prepare_image_folder(images, name="dots", size=24, val_share=0.2)
    with pytest.raises(ResattnError, match="was prepared anew, from other files"):
        compare(comparison)


def test_measured_steps_come_with_their_number_format_and_go_with_the_size_of_the_images(
    dots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {**without_length(), "precision": "auto"}
    timed = toy(fields=fields, arms={"exact": {"precision": "bf16"}}, equal="time", time="20s", seeds=1)
    monkeypatch.setenv("RESATTN_PRECISION", "fp32")
    monkeypatch.setattr(
        "resattn.experiments.steps_in_time.measure_in_turns", lambda probes, budget: [[0.01] * len(probes)]
    )
    assert [run.recipe.precision for run in planned_runs(timed)] == ["fp32", "bf16"]
    monkeypatch.setenv("RESATTN_PRECISION", "bf16")  # what another machine would choose, later
    runs = planned_runs(timed)
    assert [run.recipe.precision for run in runs] == ["fp32", "bf16"]
    assert [run.recipe.steps for run in runs] == [2000, 2000]
    monkeypatch.setattr(
        "resattn.experiments.steps_in_time.measure_in_turns", lambda probes, budget: [[0.1, 0.1]]
    )
    file = POOL / "steps-in-time.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({key: {**entry, "side": 999} for key, entry in known.items()}))
    assert [run.recipe.steps for run in planned_runs(timed)] == [200, 200]


def test_a_device_that_is_too_small_is_told(dots: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("resattn.experiments.comparing.run.train", too_large)
    with pytest.raises(ResattnError, match="the memory of this device is too small: CUDA out of memory"):
        compare(toy(seeds=1))
