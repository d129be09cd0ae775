"""Many finished trials into a record at once.

Optuna writes a trial in a dozen statements of its own, some 20 ms and more; a simulated study of thousands of trials
would take an hour. Here all trials go in by one statement a table of Optuna's published schema.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import MetaData, func, insert, select

_TABLES = ("trials", "trial_params", "trial_values", "trial_user_attributes")


def add(storage: RDBStorage, study: str, trials: Sequence[FrozenTrial]) -> None:
    """Append closed ``trials`` to ``study``: state, times, values, parameters and user attributes of each.

    ``optuna.Study.add_trials`` does the same, slowly, and also keeps intermediate values, which these trials must not
    have (``ValueError``). Numbers continue those of the study.
    """
    if any(trial.intermediate_values or not trial.state.is_finished() for trial in trials):
        raise ValueError(
            "Trials added in bulk must be closed and without intermediate values: use Optuna's add_trials."
        )
    study_id = storage.get_study_id_from_name(study)
    tables = MetaData()
    tables.reflect(storage.engine, only=_TABLES)
    with storage.engine.begin() as connection:
        table = tables.tables["trials"]
        number = connection.scalar(select(func.count()).where(table.c.study_id == study_id)) or 0
        first = (connection.scalar(select(func.max(table.c.trial_id))) or 0) + 1
        rows = _rows(trials, study_id, first, int(number))
        for name in _TABLES:
            if rows[name]:
                connection.execute(insert(tables.tables[name]), rows[name])


def _rows(trials: Sequence[FrozenTrial], study: int, first: int, number: int) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    described: dict[Any, str] = {}
    for offset, trial in enumerate(trials):
        of_trial = {"trial_id": first + offset}
        rows["trials"].append(
            {
                **of_trial,
                "number": number + offset,
                "study_id": study,
                "state": trial.state.name,
                "datetime_start": trial.datetime_start,
                "datetime_complete": trial.datetime_complete,
            }
        )
        for name, value in trial.params.items():
            kind = trial.distributions[name]
            if kind not in described:
                described[kind] = distribution_to_json(kind)
            stored = {"param_value": kind.to_internal_repr(value), "distribution_json": described[kind]}
            rows["trial_params"].append({**of_trial, "param_name": name, **stored})
        for objective, value in enumerate(trial.values or ()):
            rows["trial_values"].append({**of_trial, "objective": objective, "value": value, "value_type": "FINITE"})
        for name, attribute in trial.user_attrs.items():
            rows["trial_user_attributes"].append({**of_trial, "key": name, "value_json": json.dumps(attribute)})
    return rows
