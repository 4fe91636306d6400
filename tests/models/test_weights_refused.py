"""Weights files that are refused: of others, damaged, forged, or for no network there is."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from labelled_weights import LABELS
from safetensors.torch import load_file, save_file
from torch import Tensor

from resattn.errors import ResattnError
from resattn.models.weights import load_weights, read_metadata


@pytest.fixture
def forge(saved: Path, tmp_path: Path) -> Any:
    """Write a file with other metadata, tensors or header entries than the saved one."""

    def write(*, tensors: dict[str, Tensor | None] | None = None, **document: Any) -> Path:
        path = tmp_path / "forged.safetensors"
        contents = {**load_file(saved), **(tensors or {})}
        header = {"resattn": json.dumps({**read_metadata(saved), "sha256": "0" * 64, **document})}
        save_file({name: tensor for name, tensor in contents.items() if tensor is not None}, path, header)
        return path

    return write


def assert_refused(path: Path, *parts: str) -> None:
    with pytest.raises(ResattnError) as refusal:
        load_weights(path)
    assert refusal.value.mend
    for part in (str(path), *parts):
        assert part in refusal.value.what


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent.safetensors", "No such file")
    assert_refused(tmp_path, "Is a directory")


@pytest.mark.parametrize(
    "contents",
    [b"", b"\x00" * 7, b"\xff" * 64, b"not weights at all, only text", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"],
)
def test_files_that_are_not_ours(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(contents)
    assert_refused(path)


def test_a_pickle_is_named_and_not_loaded(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    old.write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.zeros(1)}, new)
    assert_refused(old, "is a pickle")
    assert_refused(new, "is a pickle")


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_a_truncated_file(saved: Path, tmp_path: Path, kept: float) -> None:
    contents = saved.read_bytes()
    path = tmp_path / "short.safetensors"
    path.write_bytes(contents[: int(kept * len(contents))])
    assert_refused(path, "truncated")


def test_a_flipped_bit_in_a_weight(saved: Path, tmp_path: Path) -> None:
    contents = bytearray(saved.read_bytes())
    contents[-1000] ^= 1
    path = tmp_path / "w.safetensors"
    path.write_bytes(contents)
    assert_refused(path, "damaged", "checksum")


def test_safetensors_of_others(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for header in (None, {"format": "pt"}):
        save_file(load_file(saved), path, header)
        assert_refused(path, "no metadata of resattn")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "no JSON object"),
        ("{}", "lacks model, options, num_classes"),
    ],
)
def test_metadata_that_is_no_json_object(saved: Path, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file(load_file(saved), path, {"resattn": text})
    assert_refused(path, reason)


def test_an_unknown_model(forge: Any) -> None:
    path = forge(model="resatn_mini")
    assert_refused(path, "no model 'resatn_mini'")
    with pytest.raises(ResattnError) as refusal:
        load_weights(path)
    assert "did you mean resattn_mini" in refusal.value.mend


@pytest.mark.parametrize("model", ["resnet18", "hf-hub:someone/something", "local-dir:/tmp/x", "", 5])
def test_models_of_others_are_not_built(forge: Any, model: object) -> None:
    assert_refused(forge(model=model))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mask_widht": 8}, "no option 'mask_widht'"),
        ({"masked_stages": [9]}, "cannot be built with the options"),
        ({"mask_width": "wide"}, "cannot be built with the options"),
        ({"checkpoint_path": "evil.pt"}, "may not contain checkpoint_path"),
        ({"pretrained": True, "num_classes": 5}, "may not contain num_classes, pretrained"),
        ([], "options should be a JSON object"),
    ],
)
def test_options_that_build_nothing(forge: Any, options: object, reason: str) -> None:
    assert_refused(forge(options=options), reason)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"num_classes": 4}, "num_classes is 4 but there are 3 label_names"),
        ({"num_classes": True, "label_names": ["a"]}, "num_classes is True"),
        ({"label_names": LABELS[::-1]}, "label_names are not sorted"),
        ({"label_descriptions": {}}, "label_descriptions should give each"),
        ({"input_size": [3, 64]}, "input_size should be"),
        ({"data": 7}, "data should be a string, not 7"),
        (
            {"num_classes": 2, "label_names": ["a", "b"], "label_descriptions": {"a": "a", "b": "b"}},
            "head.fc.weight is F32 [3, 256], not F32 [2, 256]",
        ),
    ],
)
def test_fields_that_contradict(forge: Any, fields: dict[str, Any], reason: str) -> None:
    assert_refused(forge(**fields), reason)


def test_missing_unexpected_and_misshapen_tensors(forge: Any) -> None:
    absent = [name for name in read_metadata_names(forge) if name.startswith("stages.0")]
    assert_refused(
        forge(tensors=dict.fromkeys(absent)), "missing: stages.0.0.", f"and {len(absent) - 3} more"
    )
    assert_refused(forge(tensors={"fc.weight": torch.zeros(2)}), "not of this model: fc.weight")
    assert_refused(
        forge(tensors={"head.fc.bias": torch.zeros(1, 3), "stem.0.weight": torch.zeros(2, dtype=torch.int8)}),
        "head.fc.bias is F32 [1, 3], not F32 [3]",
        "stem.0.weight is I8 [2], not F32 [32, 3, 4, 4]",
    )
    assert_refused(
        forge(tensors={"head.fc.bias": torch.zeros(3, dtype=torch.float64)}), "is F64 [3], not F32"
    )


def read_metadata_names(forge: Any) -> list[str]:
    return list(load_file(forge()))


def test_a_network_too_large_to_build_is_refused_by_its_shapes(forge: Any) -> None:
    assert_refused(forge(options={"mask_width": 4096, "masked_stages": [3]}), "of another shape")
