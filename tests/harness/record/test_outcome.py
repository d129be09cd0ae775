from __future__ import annotations

from typing import get_args

from mlflow.entities import RunStatus
from optuna.trial import TrialState

from harness.record.outcome import KIND_OF, KINDS, Outcome


def test_every_outcome_has_a_kind_of_its_own() -> None:
    assert set(KINDS) == set(get_args(Outcome))
    assert len(KIND_OF) == len(KINDS)


def test_a_kind_names_states_that_optuna_and_mlflow_have() -> None:
    assert {kind.state for kind in KINDS.values()} <= {state.name for state in TrialState if state.is_finished()}
    ended = {name for name in RunStatus.all_status() if RunStatus.is_terminated(name)}
    assert {RunStatus.from_string(kind.run_status) for kind in KINDS.values()} <= ended
