"""From trained weights to other classes: what is taken, what stands still, and that it all can be resumed."""

import copy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import resattn
from resattn.data import image_folder
from resattn.data.augmentation import Augmentation
from resattn.data.batches import Batch
from resattn.data.image_folder import prepare_image_folder
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.hardware import choose_execution
from resattn.models import create_model
from resattn.training.budget import PROBES, StepKind, measure_budget
from resattn.training.fine_tuning import starting_network, training_logits
from resattn.training.job import training_batches
from resattn.training.optimization import make_optimizer, make_schedule, parameter_groups, schedule_factor
from resattn.training.own_images import with_packed_folder
from resattn.training.recipe import Optimization, Recipe, find_recipe
from resattn.training.run import resume, train
from resattn.training.run_folder import RunFolder
from resattn.training.task import training_loss

SCRIPT = Path(__file__).with_name("killed_run.py")
COLOURS = {"cyan": (0, 1, 1), "green": (0, 1, 0), "yellow": (1, 1, 0)}
EXECUTION = choose_execution("fp32", "cpu")


@pytest.fixture
def photos(trained_dots, draw_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes the trained network never saw, five images each, and a home with no data."""
    monkeypatch.setenv("RESATTN_HOME", str(tmp_path / "home"))
    return draw_dots(tmp_path / "My Photos", COLOURS, images=5, side=30)


def recipe_of(data: object, **changes: object) -> Recipe:
    recipe = Recipe.from_yaml(find_recipe("fine-tune"))
    settings = {
        "steps": 8,
        "batch_size": 8,
        "validations": 1,
        "precision": "fp32",
        "start_from": "pretrained",
    }
    return recipe.replace(**(settings | {"data": str(data)} | changes))


def tensors(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.weights_file)


def assert_same_weights(one: RunFolder, other: RunFolder) -> None:
    expected, found = tensors(one), tensors(other)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_head_is_swapped_where_the_classes_differ(trained_dots) -> None:
    source = resattn.load("resattn_mini")
    recipe = Recipe(model_options={"mask_width": 8})
    file = trained_dots.release / "resattn_mini.safetensors"
    kept = starting_network(recipe, ("blue", "red"), file)
    swapped = starting_network(recipe, ("blue", "rot"), file)
    fresh = starting_network(recipe, ("blue", "rot"), None)
    for name, tensor in source.state_dict().items():
        assert torch.equal(kept.state_dict()[name], tensor)
        other = fresh if name.startswith("head.fc.") else source
        assert torch.equal(swapped.state_dict()[name], other.state_dict()[name])


def test_a_run_whose_network_has_a_list_among_its_options_is_started_from(
    trained_dots, tmp_path: Path
) -> None:
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    options = {"mask_width": 8, "masked_stages": [2]}
    train(recipe_of("dots", start_from=None, head_first=0.0, model_options=options, steps=1), first)
    train(recipe_of("dots", start_from=str(first.path), steps=1), second)
    assert second.recipe().model_options == options


def test_head_only_steps_move_the_classifier_and_nothing_else(photos: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(recipe_of(f"folder:{photos}", head_first=1.0, steps=3), folder)
    source = resattn.load("resattn_mini").state_dict()
    moved = {name for name, tensor in tensors(folder).items() if not torch.equal(tensor, source[name])}
    assert moved == {"head.fc.weight", "head.fc.bias"}
    assert folder.recipe().model_options == {"mask_width": 8}


def test_dropout_acts_and_masks_get_no_gradient_while_the_classifier_learns_alone() -> None:
    torch.manual_seed(0)
    network = create_model("resattn_mini", num_classes=3, drop_rate=0.5)
    images, labels = torch.rand(4, 3, 24, 24), torch.tensor([0, 1, 2, 0])
    batch = Batch(images, labels, labels, 1.0)
    first, _ = training_loss(network, batch, EXECUTION, 0.0, head_only=True)
    second, _ = training_loss(network, batch, EXECUTION, 0.0, head_only=True)
    assert first != second
    first.backward()
    with_gradient = {name for name, value in network.named_parameters() if value.grad is not None}
    assert with_gradient == {"head.fc.weight", "head.fc.bias"}
    training_loss(network, batch, EXECUTION, 0.0)[0].backward()
    assert network.training
    assert all(value.grad is not None for value in network.parameters())


@pytest.mark.long
def test_killed_while_the_classifier_learns_alone_and_resumed_is_bit_identical(
    photos: Path, tmp_path: Path
) -> None:
    name = with_packed_folder(recipe_of(f"folder:{photos}")).data
    weights = tmp_path / "mine.safetensors"
    shutil.copy(resattn.models.loading.find_weights("resattn_mini"), weights)
    # Killed in the eighth of twelve steps, the ninth is the first for the whole network.
    recipe = recipe_of(
        name, start_from=str(weights), steps=12, head_first=0.65, model_options={"drop_rate": 0.2}
    )
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(recipe.to_yaml())
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train(recipe, whole)
    command = [sys.executable, str(SCRIPT), str(recipe_file), str(killed.path), "step"]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    weights.unlink()  # the run has a copy
    resume(killed)
    assert_same_weights(whole, killed)
    # And once more from a later checkpoint, in which the whole network learns already.
    train(
        recipe.replace(start_from=str(whole.start_file)), RunFolder(tmp_path / "again"), checkpoint_seconds=0
    )
    again = RunFolder(tmp_path / "again")
    again.weights_file.unlink()
    again.results_file.unlink()
    resume(again)
    assert_same_weights(whole, again)


def test_a_run_is_not_resumed_on_other_data(photos: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    recipe = recipe_of(f"folder:{photos}", steps=1)
    train(recipe, folder)
    folder.results_file.unlink()
    Image.new("RGB", (30, 30)).save(photos / "cyan" / "black.png")
    with_packed_folder(recipe)
    with pytest.raises(ResattnError, match="prepared anew, from other files"):
        resume(folder)


def test_other_networks_and_options_are_refused(trained_dots, tmp_path: Path) -> None:
    folder, run = RunFolder(tmp_path / "run"), str(trained_dots.run)
    for changes, what in (
        (
            {"model": "resattn_mini_plain", "start_from": run},
            "holds weights of resattn_mini, and the model is",
        ),
        ({"model_options": {"mask_width": 16}}, "with the options {'mask_width': 8}, and the recipe says"),
        ({"start_from": "nowhere"}, "nowhere is no run folder"),
        ({"model": "resattn_small"}, "no weights ship for resattn_small"),
    ):
        with pytest.raises(ResattnError) as refused:
            train(recipe_of("dots", **changes), folder)
        assert what in refused.value.what
        assert not folder.path.exists()


def test_a_folder_is_packed_once_and_again_when_it_changes(
    photos: Path, draw_dots, tmp_path: Path, capsys
) -> None:
    recipe = recipe_of(f"folder:{photos}")
    packed = with_packed_folder(recipe)
    assert packed.data == "My-Photos-24"  # the side the weights were trained at
    assert with_packed_folder(packed) == packed
    assert (len(open_split(packed.data).images), len(open_split(packed.data, "val").images)) == (12, 3)
    sha256 = open_split(packed.data).source_sha256
    assert with_packed_folder(recipe) == packed
    told = capsys.readouterr().err
    assert "packed" in told
    assert "3 classes at 24 px, images: 12 train, 3 val" in told
    assert "classes: cyan, green, yellow" in told
    assert "random weights" not in told
    assert "is packed already, as My-Photos-24, and unchanged" in told
    (photos / "green" / "broken.png").write_bytes(b"no image")
    assert with_packed_folder(recipe) == packed
    assert "left out: " in capsys.readouterr().err
    assert open_split(packed.data).source_sha256 != sha256
    assert with_packed_folder(recipe.replace(start_from=None)).data == "My-Photos-64"
    assert "begins with random weights; those that ship (--from pretrained)" in capsys.readouterr().err
    larger = with_packed_folder(recipe.replace(size=40))
    assert (larger.data, larger.size) == ("My-Photos-40", None)
    assert open_split("My-Photos-40").images.shape[1:3] == (40, 40)
    with pytest.raises(ResattnError, match="My-Photos-40 is packed already, and a size is for a folder"):
        with_packed_folder(larger.replace(size=32))
    with pytest.raises(ResattnError, match="there is no data set 'My-Photos-99'"):
        with_packed_folder(larger.replace(data="My-Photos-99", size=32))
    same_name = draw_dots(tmp_path / "other" / "My Photos", COLOURS, images=2, side=8)
    assert with_packed_folder(recipe_of(f"folder:{same_name}")).data == "My-Photos-24-2"


def test_the_hash_of_a_folder_is_the_one_its_packing_records(photos: Path) -> None:
    name, report = image_folder.prepare_once(photos, size=8)
    assert report is not None
    assert image_folder.prepare_once(photos, size=8) == (name, None)
    prepare_image_folder(
        photos, name=name, size=8, val_share=0.4, skip_bad=True
    )  # by hand, divided otherwise
    assert image_folder.prepare_once(photos, size=8)[0] == f"{name}-2"


def test_few_images_and_a_batch_larger_than_all_of_them(trained_dots, draw_dots, tmp_path: Path) -> None:
    few = draw_dots(tmp_path / "few", {"cyan": (0, 1, 1), "green": (0, 1, 0)}, images=1, side=24)
    with pytest.raises(ResattnError, match="has one image, and none is left to validate on"):
        with_packed_folder(recipe_of(f"folder:{few}"))
    Image.fromarray(np.zeros((24, 24, 3), dtype=np.uint8)).save(few / "green" / "second.png")
    folder = RunFolder(tmp_path / "run")
    result = train(recipe_of(f"folder:{few}", steps=2, batch_size=16), folder)
    assert (result.images, folder.recipe().data) == (1, "few-24")


def test_the_budget_measures_both_kinds_of_steps(trained_dots) -> None:
    recipe = recipe_of("dots", steps=None, time="30s", head_first=0.5, batch_size=48)
    network = create_model("resattn_mini", num_classes=2)
    before = copy.deepcopy(network.state_dict())
    batches = training_batches(recipe, open_split("dots"), count=PROBES)
    budget = measure_budget(network, recipe, batches, EXECUTION)
    alone, whole = StepKind(24, True), StepKind(24, False)
    assert budget.step_seconds[alone] < budget.step_seconds[whole]
    seconds = budget.steps * sum(budget.step_seconds.values()) / 2
    assert 30 * 0.97 < seconds <= 30
    assert "24 px, classifier only" in str(budget)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_rates_fall_by_stage_from_the_head_to_the_stem(optimizer) -> None:
    network = create_model("resattn_mini", num_classes=2)
    optimization = Optimization(optimizer=optimizer, lr=0.02, rest_lr=0.02, layer_decay=0.5)
    made = make_optimizer(network, optimization)
    rates = {id(value): group["lr"] for group in made.param_groups for value in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    stages = len(network.stages)
    for name, value in network.named_parameters():
        depth = {"head": 0, "stem": stages + 1}.get(name.split(".")[0])
        depth = stages - int(name.split(".")[1]) if depth is None else depth
        assert rates[id(value)] == pytest.approx(0.02 * 0.5**depth), name


def test_without_layer_decay_the_groups_are_three() -> None:
    groups = parameter_groups(create_model("resattn_mini"), Optimization())
    assert [(group["name"], group["scale"]) for group in groups] == [("hidden", 1), ("other", 1), ("free", 1)]


def test_each_phase_has_the_schedule_for_itself() -> None:
    optimization = Optimization(warmup=0.2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = make_schedule(optimizer, optimization, 30, head_steps=10)
    found = []
    for _ in range(30):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    phases = [(step, 10) for step in range(10)] + [(step, 20) for step in range(20)]
    assert found == pytest.approx([schedule_factor(optimization, *phase) for phase in phases])


def test_the_shipped_recipe_changes_what_it_should() -> None:
    recipe = Recipe.from_yaml(find_recipe("fine-tune"))
    default = Recipe()
    assert 0 < recipe.head_first < 0.5
    assert recipe.optimization.layer_decay < 1
    assert recipe.optimization.lr < default.optimization.lr
    assert recipe.start_scale == 1
    assert recipe.augmentation != Augmentation()
    assert (recipe.start_from, recipe.model) == (None, default.model)  # for the user, and the weights, to say


def test_a_batch_of_one_image_that_cannot_be_normalized_is_told() -> None:
    network = create_model("resattn_mini", num_classes=2)
    with pytest.raises(
        ResattnError, match="batches of one image cannot be trained on at 32 pixels"
    ) as refused:
        training_logits(network, torch.rand(1, 3, 32, 32))
    assert refused.value.mend == "give --batch-size 2 or more"
    assert training_logits(network, torch.rand(2, 3, 32, 32)).shape == (2, 2)
