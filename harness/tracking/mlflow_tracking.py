"""MLflow as the tracker of a study: where its default database lies, and how a person opens it.

Loads MLflow only to write to it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.record.locations import sqlite_file, sqlite_url
from harness.record.study import Record
from harness.tracking.tracker import Material, OpenHint, Tracker
from sam2lora.credentials import TRACKING, masked
from sam2lora.environment import variable


def local_tracking(out: Path) -> str:
    """The address of the MLflow database among the results in ``out``."""
    return sqlite_url(out / "mlflow.db")


def default_tracking(out: Path) -> str:
    """MLflow's address where a command line names none: ``$MLFLOW_TRACKING_URI``, else the database in ``out``."""
    return variable(TRACKING) or local_tracking(out)


@dataclass(frozen=True)
class MlflowTracking:
    """MLflow at an ``address``: a server's, or a local database's."""

    address: str

    def hint(self, study: str) -> OpenHint:
        """The command that shows the runs of ``study``, the best first."""
        file = sqlite_file(self.address)
        local = file is not None and self.address == local_tracking(file.parent)
        where = ["--out", str(file.parent)] if file and local else ["--mlflow", masked(self.address)]
        return OpenHint(
            "MLflow",
            "In MLflow the study is a parent run with this report in it, and its trials are the child runs:",
            shlex.join(["python", "-m", "harness.ui", study, *where]),
        )

    def open(self, record: Record, question: Mapping[str, Any], materials: Sequence[Material]) -> Tracker:
        """Start to write a study into MLflow."""
        from harness.tracking.mlflow_tracker import MlflowTracker  # loads MLflow, which a report does without

        return MlflowTracker(self.address, record, question, materials)
