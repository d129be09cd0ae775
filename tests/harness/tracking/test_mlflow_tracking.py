from __future__ import annotations

from pathlib import Path

import pytest

from harness.tracking.mlflow_tracking import default_tracking, local_tracking


def test_the_environment_names_a_tracking_server_before_the_results_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking(tmp_path) == local_tracking(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_tracking(tmp_path) == "http://tracking:5000"
