"""Answers image by image: their table, and the picture of the surest mistakes."""

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import resattn
from resattn.errors import ResattnError
from resattn.evaluation.classification import evaluate
from resattn.evaluation.mistakes import write_answers

LOGITS = [[math.log(p) for p in row] for row in ([0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5])]


def test_hand_checked_answers_over_short_batches(oracle, make_split) -> None:
    # Answers 0 1 2 0 2 against labels 0 2 1 2 2; the images that have no label are not asked.
    split = make_split([0, 1, 2, 1, 0, 2], [0, 2, 1, -1, 2, 2])
    result = evaluate(oracle(LOGITS), split, batch_size=2, progress=False)
    answers = result.answers
    assert answers.rows.tolist() == [0, 1, 2, 4, 5]
    assert answers.predicted.tolist() == [0, 1, 2, 0, 2]
    assert answers.probability == pytest.approx([0.7, 0.6, 0.5, 0.7, 0.5])
    assert answers.right_probability == pytest.approx([0.7, 0.1, 0.3, 0.1, 0.5])
    assert answers.surest_mistakes(split, 9).tolist() == [4, 1, 2]
    assert answers.surest_mistakes(split, 1).tolist() == [4]


def test_the_table_and_the_picture(make_split, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resattn.create_model("resattn_mini", num_classes=3)
    split = make_split([0, 0, 0], [0, 1, 2], file_names=["a,b.png", "caf\udce9.png", "猫.png"])
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    split = dataclasses.replace(split, images=images)
    result = evaluate(network, split, progress=False)

    write_answers(network, split, result.answers, tmp_path, title="a title")

    data = (tmp_path / "predictions.csv").read_bytes()
    assert b"caf\xe9.png" in data
    head, *rows = csv.reader(data.decode("utf-8", "surrogateescape").splitlines())
    assert head == ["file", "class", "predicted", "probability", "probability_of_class"]
    assert [row[:2] for row in rows] == [["a,b.png", "ant"], ["caf\udce9.png", "bee"], ["猫.png", "cat"]]
    right = [row[1] == row[2] for row in rows]
    assert np.mean(right) == result.top1
    assert -np.mean([math.log(float(row[4])) for row in rows]) == pytest.approx(result.loss, rel=1e-4)
    assert np.asarray(Image.open(tmp_path / "mistakes.png")).std() > 10


def test_no_mistakes_no_picture_of_another_evaluation(oracle, make_split, tmp_path: Path) -> None:
    (tmp_path / "mistakes.png").write_bytes(b"of another evaluation")
    split = make_split([0, 1], [0, 1])
    network = oracle(LOGITS)
    write_answers(network, split, evaluate(network, split, progress=False).answers, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".png"] == []


def test_a_folder_that_cannot_be(oracle, make_split, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    split = make_split([0], [0])
    network = oracle(LOGITS)
    answers = evaluate(network, split, progress=False).answers
    with pytest.raises(ResattnError, match="cannot write"):
        write_answers(network, split, answers, tmp_path / "file")
