"""A trained network from whatever a user names: a run folder, a weights file, or a model's name."""

from pathlib import Path

from resattn.errors import ResattnError
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.registry import create_model, list_variants
from resattn.models.weights import load_weights

WEIGHTS_NAME = "weights.safetensors"


def load(source: str | Path) -> ResidualAttentionNetwork:
    """The trained network in a run folder or .safetensors file, or the one shipped under a model's name.

    It is in evaluation mode, with class ids and readable names in `pretrained_cfg` ("label_names",
    "label_descriptions"). Raises ResattnError where there is nothing to load, naming what would make it.
    """
    path = Path(source)
    if path.is_dir():
        weights = path / WEIGHTS_NAME
        if weights.is_file():
            return load_weights(weights).eval()
        if (path / "recipe.yaml").is_file():
            raise ResattnError(
                f"the run in {path} is not finished: it has no {WEIGHTS_NAME}",
                f"go on with `resattn train --resume --run-dir {path}`",
            )
        raise ResattnError(
            f"{path} holds no run (no {WEIGHTS_NAME})", "name a run folder, a weights file or a model"
        )
    if path.is_file():
        return load_weights(path).eval()
    if str(source) in list_variants():
        network = create_model(str(source))
        if not network.pretrained_cfg.get("file"):
            raise ResattnError(
                f"no weights ship for {source}",
                f"train it with `resattn train --model {source}` and name the run",
            )
        return create_model(str(source), pretrained=True).eval()
    raise ResattnError(
        f"{source} is no run folder, weights file or model name",
        "`ls runs/` lists runs, `resattn models` lists models",
    )
