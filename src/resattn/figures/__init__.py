"""Every drawing: arrays in, a matplotlib Figure out. Nothing is shown on a screen; `save` writes files."""

from resattn.figures.comparison import curves_by_arm, scores_by_arm
from resattn.figures.confusion import confusion_matrix
from resattn.figures.curves import learning_curves
from resattn.figures.predictions import predictions_sheet
from resattn.figures.style import save
from resattn.figures.tuning import study_overview

__all__ = [
    "confusion_matrix",
    "curves_by_arm",
    "learning_curves",
    "predictions_sheet",
    "save",
    "scores_by_arm",
    "study_overview",
]
