"""Which tracker a command line names: the one place that knows all of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.tracking.mlflow_tracking import MlflowTracking, default_tracking
from harness.tracking.tracker import Tracking


def tracking_of(arguments: argparse.Namespace, out: Path) -> Tracking:
    """The tracker of a command whose results lie in ``out``."""
    return MlflowTracking(vars(arguments).get("mlflow") or default_tracking(out))
