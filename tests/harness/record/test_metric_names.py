from __future__ import annotations

import numpy as np
import pandas as pd

from harness.record.metric_names import twins
from sam2lora.metrics import METRICS, reading


def test_metrics_that_are_one_number_are_named_with_the_reason() -> None:
    """Boundary IoU of vessels is IoU; without a field of view the whole photograph is the field."""
    scores = pd.DataFrame(
        {
            "dataset": ["drive", "drive", "drishti"],
            "iou": [0.61, 0.7, 0.9],
            "boundary_iou": [0.61, 0.7001, 0.7],
            "accuracy": [0.95, 0.96, 0.99],
            "accuracy_full": [0.97, 0.98, 0.99],
        }
    )
    assert twins(scores) == (
        " On drive boundary IoU and IoU are one number: no structure of drive is wider than the band of the boundary "
        "IoU, as with vessels. On drishti accuracy, full photograph and accuracy are one number: the field of view of "
        "drishti is the whole photograph."
    )
    assert twins(scores.drop(columns=["iou", "accuracy"])) == ""
    assert twins(scores.assign(boundary_iou=np.nan, accuracy_full=np.nan)) == ""


def test_every_metric_has_a_reading() -> None:
    """By this list a reader learns which way is better: none of the module's metrics may be missing from it."""
    text = {"sensitivity", "specificity", "accuracy", "precision"}  # read as they are called
    assert {name for name in METRICS if reading(name).name == name} == text
    assert {name for name in METRICS if reading(name).smaller} == {"hd95", "assd", "ece"}
    assert {name for name in METRICS if reading(name).unit} == {"hd95", "assd"}
