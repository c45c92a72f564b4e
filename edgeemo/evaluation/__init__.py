"""Measures a bundle on labelled data."""

from edgeemo.evaluation.accuracy import Evaluation, SubsetResult, evaluate
from edgeemo.evaluation.metrics import Metrics, metrics_from_probabilities

__all__ = ["Evaluation", "Metrics", "SubsetResult", "evaluate", "metrics_from_probabilities"]
