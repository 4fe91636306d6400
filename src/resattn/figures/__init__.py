"""Every drawing: arrays in, a matplotlib Figure out. Nothing is shown on a screen; `save` writes files."""

from resattn.figures.comparison import curves_by_arm, scores_by_arm
from resattn.figures.confusion import confusion_matrix
from resattn.figures.curves import learning_curves
from resattn.figures.explanation import explanation_sheet, explanations_contact_sheet
from resattn.figures.localization import localization_scores
from resattn.figures.predictions import predictions_sheet
from resattn.figures.robustness import corruption_accuracy
from resattn.figures.style import save
from resattn.figures.tuning import study_overview

__all__ = [
    "confusion_matrix",
    "corruption_accuracy",
    "curves_by_arm",
    "explanation_sheet",
    "explanations_contact_sheet",
    "learning_curves",
    "localization_scores",
    "predictions_sheet",
    "save",
    "scores_by_arm",
    "study_overview",
]
