"""Which tracker a command line names: the one place that knows all of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.tracking.mlflow_tracking import MlflowTracking, default_tracking
from harness.tracking.tracker import Tracking
from sam2lora.cli.options import address_option
from sam2lora.credentials import TRACKING


def add_tracking(command: argparse.ArgumentParser) -> None:
    """Add the option that names the tracker of a study that is there."""
    command.add_argument(
        "--mlflow",
        type=address_option(TRACKING),
        metavar="URL",
        help="MLflow's address (default: $MLFLOW_TRACKING_URI, else sqlite:///DIR/mlflow.db)",
    )


def tracking_of(arguments: argparse.Namespace, out: Path) -> Tracking:
    """The tracker of a command whose results lie in ``out``."""
    return MlflowTracking(vars(arguments).get("mlflow") or default_tracking(out))
