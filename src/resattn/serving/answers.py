"""What the server says about an image: as JSON, and as the OpenAPI document describes it."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from resattn.serving.batching import Answer
from resattn.serving.prediction import Prediction
from resattn.serving.runtime import Floats, Runtime


class MaskBody(BaseModel):
    """One attention mask, its mean over channels, over the square the network saw."""

    png: str = Field(description="data:image/png;base64,... 8-bit gray: 0 is `low`, 255 is `high`.")
    low: float = Field(description="The smallest value of the mask.")
    high: float = Field(description="The largest value of the mask.")
    width: int = Field(description="Pixels of the PNG, one a position of the mask.")
    height: int


class PredictionBody(BaseModel):
    """The likeliest classes of one image, best first."""

    source: str | None = Field(description="The file's name, where a form gave one.")
    labels: list[str] = Field(description="Class ids.")
    descriptions: list[str] = Field(description="Their readable names.")
    probabilities: list[float] = Field(description="Fractions of 1, over all classes.")
    masks: dict[str, MaskBody] | None = Field(
        default=None,
        description='By "stage{i}.{j}", in the order of the network; last "combined", how much the answer depends on '
        "them, place by place, where torch runs the network. Only where asked for.",
    )


class RefusedBody(BaseModel):
    """An image among several that could not be used."""

    source: str | None
    error: str
    mend: str
    status: int = Field(description="The status it would have had alone.")


class BatchBody(BaseModel):
    """One entry an image, in the order they were sent."""

    predictions: list[PredictionBody | RefusedBody]


class LimitsBody(BaseModel):
    """What a request may hold."""

    body_bytes: int
    pixels: int = Field(description="Width times height of one image.")
    images: int


class ModelBody(BaseModel):
    """The network that answers."""

    model: str
    data: str = Field(description="What it was trained on.")
    version: str = Field(description="Of resattn.")
    input_size: list[int] = Field(description="Channels, height and width in pixels.")
    labels: list[str] = Field(description="Class ids.")
    descriptions: list[str] = Field(description="Their readable names.")
    masks: list[str] = Field(description="Names of the masks it can give; empty where it has none.")
    limits: LimitsBody


class StateBody(BaseModel):
    """How the server is."""

    status: str


def prediction(runtime: Runtime, answer: Answer, source: str | None, *, top: int) -> Prediction:
    """The `top` likeliest classes (all, where there are fewer), without masks."""
    best = np.argsort(-answer.probabilities, kind="stable")[:top]
    return Prediction(
        source,
        tuple(runtime.labels[k] for k in best),
        tuple(runtime.descriptions[k] for k in best),
        tuple(answer.probabilities[best].tolist()),
    )


def prediction_json(
    runtime: Runtime, answer: Answer, source: str | None, *, top: int, masks: bool
) -> dict[str, Any]:
    """A `PredictionBody`."""
    fields = prediction(runtime, answer, source, top=top).to_json()
    if masks:
        fields["masks"] = {name: mask_json(mask) for name, mask in answer.masks.items()}
    return fields


def mask_json(mask: Floats) -> dict[str, Any]:
    """A `MaskBody` of one mask, H x W: each is stretched to its own range, which is said beside it."""
    low, high = float(mask.min()), float(mask.max())
    stretched = (mask - low) * (255 / (high - low)) if high > low else np.zeros_like(mask)
    file = io.BytesIO()
    Image.fromarray(np.rint(stretched).astype(np.uint8)).save(file, "PNG")
    return {
        "png": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii"),
        "low": low,
        "high": high,
        "width": mask.shape[1],
        "height": mask.shape[0],
    }
