from __future__ import annotations

from harness.record.provenance import provenance


def test_provenance_names_what_results_depend_on() -> None:
    names = provenance()
    assert {"torch", "sam2", "optuna", "ray", "mlflow", "python", "git"} <= names.keys()
