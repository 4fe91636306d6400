"""Residual attention networks for image classification.

    import resattn
    network = resattn.create_model("resattn_mini", num_classes=10)     # any of resattn.list_models()
    network = resattn.load("runs/shapes-resattn_mini-1")               # a trained run, a weights file or a model's name
    predictor = resattn.Predictor(network)                             # or Predictor.open("exported.onnx")
    predictor.predict("photo.jpg")
    resattn.explain(network, predictor.pixels("photo.jpg")[None])      # where it looked: masks, saliency, box, Grad-CAM
    resattn.train(data="photos/", start_from="pretrained", time="5m")  # a run, as `resattn train` makes one

Importing this package registers every network with timm: `timm.create_model("resattn_56")` works from then on.
"""

from resattn.errors import ResattnError
from resattn.evaluation.explanation import Explanation, explain
from resattn.models import create_model, list_variants
from resattn.models.loading import load
from resattn.serving.prediction import Prediction
from resattn.serving.predictor import Predictor
from resattn.training.from_python import TrainedRun, train
from resattn.version import __version__

list_models = list_variants

__all__ = [
    "Explanation",
    "Prediction",
    "Predictor",
    "ResattnError",
    "TrainedRun",
    "__version__",
    "create_model",
    "explain",
    "list_models",
    "load",
    "train",
]
