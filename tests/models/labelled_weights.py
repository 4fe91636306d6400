"""The labels of three classes, and what is said beside the weights of a network that tells them apart."""

from typing import Any

LABELS = ["n01443537", "n01629819", "n01641577"]
DESCRIPTIONS = {"n01443537": "goldfish", "n01629819": "salamander", "n01641577": "bullfrog"}
METADATA: dict[str, Any] = {
    "data": "ponds",
    "label_names": LABELS,
    "label_descriptions": DESCRIPTIONS,
    "input_size": 64,
    "recipe": {"steps": 7},
}
