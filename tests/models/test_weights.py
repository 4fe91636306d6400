"""Weights files: what comes back, and how they are written."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from labelled_weights import DESCRIPTIONS, LABELS, METADATA
from torch import Tensor

import resattn.models.weights as weights
from resattn.errors import ResattnError
from resattn.models import ResidualAttentionNetwork, create_model
from resattn.models.weights import load_weights, read_metadata, save_weights


def assert_same_weights(one: ResidualAttentionNetwork, other: ResidualAttentionNetwork) -> None:
    expected, found = one.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_what_was_saved_comes_back(network: ResidualAttentionNetwork, saved: Path) -> None:
    loaded = load_weights(saved)
    assert_same_weights(network, loaded)
    assert not loaded.training
    assert (loaded.variant, loaded.num_classes) == ("resattn_mini", 3)
    assert loaded.options == {"mask_width": 8, "masked_stages": (3,)} == network.options
    assert loaded.pretrained_cfg["label_names"] == tuple(LABELS)
    assert loaded.pretrained_cfg["label_descriptions"] == DESCRIPTIONS
    assert loaded.pretrained_cfg["input_size"] == (3, 64, 64)
    assert loaded.pretrained_cfg["num_classes"] == 3
    images = torch.rand(2, 3, 20, 24)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), copy.deepcopy(network).eval()(images), rtol=0, atol=0)


def test_metadata_is_readable_without_the_weights(saved: Path) -> None:
    metadata = read_metadata(saved)
    assert metadata == {
        **METADATA,
        "model": "resattn_mini",
        "options": {"mask_width": 8, "masked_stages": [3]},
        "num_classes": 3,
        "input_size": [3, 64, 64],
    }


def test_a_loaded_network_knows_its_labels_when_saved_again(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "new folder" / "again.safetensors"
    save_weights(again, load_weights(saved), metadata={"data": "ponds"})
    assert read_metadata(again)["label_descriptions"] == DESCRIPTIONS
    assert_same_weights(load_weights(saved), load_weights(again))


def test_new_labels_describe_themselves(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, load_weights(saved), metadata={"data": "letters", "label_names": ["a", "b", "c"]})
    assert read_metadata(path)["label_descriptions"] == {"a": "a", "b": "b", "c": "c"}


def test_another_number_of_classes_after_building(network: ResidualAttentionNetwork, tmp_path: Path) -> None:
    changed = copy.deepcopy(network)
    changed.reset_classifier(2)
    path = tmp_path / "w.safetensors"
    save_weights(path, changed, metadata={"data": "pair", "label_names": ["a", "b"]})
    assert_same_weights(changed, load_weights(path))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_loaded_as_float32(
    network: ResidualAttentionNetwork, saved: Path, tmp_path: Path, precision: torch.dtype
) -> None:
    path = tmp_path / "half.safetensors"
    half = copy.deepcopy(network).to(precision)
    save_weights(path, half, metadata=METADATA)
    assert path.stat().st_size < 0.6 * saved.stat().st_size
    loaded = load_weights(path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert_same_weights(half.float(), loaded)


def test_memory_layout_does_not_matter(network: ResidualAttentionNetwork, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    channels_last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    save_weights(path, channels_last, metadata=METADATA)
    assert_same_weights(network, load_weights(path))


@pytest.mark.parametrize("name", ["seed_inception_attention_v4", "resattn_mini_plain"])
def test_other_variants_come_back(name: str, tmp_path: Path) -> None:
    built = create_model(name, num_classes=3, drop_rate=0.1)
    save_weights(tmp_path / "w.safetensors", built, metadata=METADATA)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert_same_weights(built, loaded)
    assert loaded.options == {"drop_rate": 0.1}


def test_equal_networks_make_equal_files_with_the_usual_permissions(
    network: ResidualAttentionNetwork, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "usual").touch()
    for name in ("a", "b", "c"):
        save_weights(tmp_path / name, network, metadata=METADATA)
        assert (tmp_path / name).read_bytes() == saved.read_bytes()
        assert (tmp_path / name).stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_any_text_and_any_json_field_comes_back(network: ResidualAttentionNetwork, tmp_path: Path) -> None:
    labels = ["\U0001f98e", "\udce9"]  # file names on Linux need not be text
    changed = copy.deepcopy(network)
    changed.reset_classifier(2)
    free = {"numbers": {10: 0.1, 9: -0.0}, "nothing": None, "steps": (1, 2)}
    path = tmp_path / "w.safetensors"
    save_weights(path, changed, metadata={"data": "x", "label_names": sorted(labels), **free})
    assert load_weights(path).pretrained_cfg["label_names"] == tuple(sorted(labels))
    assert read_metadata(path)["numbers"] == {"10": 0.1, "9": 0.0}


def test_the_random_state_is_left_alone(network: ResidualAttentionNetwork, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    save_weights(tmp_path / "w.safetensors", network, metadata=METADATA)
    load_weights(tmp_path / "w.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)


# Writing


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": None}, "data should be a string"),
        ({"label_names": LABELS[:2]}, "num_classes is 3 but there are 2 label_names"),
        ({"label_names": LABELS[::-1]}, "not sorted, or not unique: 'n01641577' stands before 'n01629819'"),
        ({"label_names": ["a", "a", "b"]}, "not sorted, or not unique"),
        ({"label_names": "abc"}, "label_names should be a list of strings"),
        ({"label_descriptions": {"n01443537": "goldfish"}}, "label_descriptions should give each"),
        ({"input_size": (64, 64)}, "input_size should be three positive numbers"),
        ({"input_size": 0}, "input_size should be three positive numbers"),
        ({"spread": float("nan")}, "not JSON values"),
        ({"figure": object()}, "not JSON values"),
    ],
)
def test_bad_metadata_is_refused_before_anything_is_written(
    network: ResidualAttentionNetwork, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "runs" / "w.safetensors"
    with pytest.raises(ResattnError, match=reason) as refusal:
        save_weights(path, network, metadata={**METADATA, **changes})
    assert str(path) in refusal.value.what
    assert not path.parent.exists()


def test_metadata_must_name_the_data_and_the_labels(
    network: ResidualAttentionNetwork, tmp_path: Path
) -> None:
    with pytest.raises(ResattnError, match="lacks label_names, label_descriptions, data"):
        save_weights(tmp_path / "w.safetensors", network, metadata={})


def test_a_network_that_its_name_does_not_build_is_refused(
    network: ResidualAttentionNetwork, tmp_path: Path
) -> None:
    changed = copy.deepcopy(network)
    changed.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 5, 2, 2))
    with pytest.raises(
        ResattnError, match=r"not of this model: stem\.0\.bias; of another shape or type: stem"
    ):
        save_weights(tmp_path / "w.safetensors", changed, metadata=METADATA)


def test_a_network_built_by_hand_needs_its_name(network: ResidualAttentionNetwork, tmp_path: Path) -> None:
    nameless = copy.deepcopy(network)
    nameless.variant = ""
    with pytest.raises(ResattnError, match="lacks model, options"):
        save_weights(tmp_path / "w.safetensors", nameless, metadata=METADATA)
    named = {**METADATA, "model": "resattn_mini", "options": network.options}
    save_weights(tmp_path / "w.safetensors", nameless, metadata=named)
    assert load_weights(tmp_path / "w.safetensors").variant == "resattn_mini"


def test_an_interrupted_save_leaves_the_old_file(
    network: ResidualAttentionNetwork, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(saved.read_bytes())

    def interrupted(_tensors: dict[str, Tensor], file: Path, _header: dict[str, str]) -> None:
        file.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_weights(path, network, metadata=METADATA)
    assert path.read_bytes() == saved.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file of this process may grow beyond 1 MiB, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("little_room")
def test_a_full_disk_leaves_nothing(network: ResidualAttentionNetwork, tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match=r"cannot write .*w\.safetensors") as refusal:
        save_weights(tmp_path / "w.safetensors", network, metadata=METADATA)
    assert "make room" in refusal.value.mend
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(network: ResidualAttentionNetwork, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "w.safetensors", tmp_path / "folder"):
        with pytest.raises(ResattnError, match="cannot write"):
            save_weights(path, network, metadata=METADATA)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "folder"]


def test_a_header_too_large_to_be_read_is_not_written(
    network: ResidualAttentionNetwork, tmp_path: Path
) -> None:
    with pytest.raises(ResattnError, match=r"cannot write.*too large"):
        save_weights(tmp_path / "w.safetensors", network, metadata={**METADATA, "notes": "x" * 100_000_000})
    assert list(tmp_path.iterdir()) == []
