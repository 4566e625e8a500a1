"""Evaluation: how good a backbone is, by protocols that see nothing but the backbone and labelled images."""

from sslfast.evaluate.evaluation import evaluate
from sslfast.evaluate.features import Encoder
from sslfast.evaluate.results import Scores, accuracy, ranks
from sslfast.evaluate.subsets import label_subset
from sslfast.evaluate.table import results_table

__all__ = ["Encoder", "Scores", "accuracy", "evaluate", "label_subset", "ranks", "results_table"]
