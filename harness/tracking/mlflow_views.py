"""What MLflow's pages show of a study at once: a saved view of its trials, and the address that opens it.

A saved view is a tag of the experiment, as MLflow 3.17 writes it when a person shares a view: a JSON envelope of a name
and times around the state of the runs table. An older version ignores the tag and shows its usual columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

_TAG = "mlflow.sharedViewState."
_SINCE = 1_700_000_000_000  # ms: the same view is the same text, whoever writes it


def view_tag(study: str) -> str:
    """The experiment's tag that holds the saved view of ``study``."""
    return f"{_TAG}{_key(study)}"


def saved_view(study: str, question: Mapping[str, Any], searched: Sequence[str]) -> str:
    """The saved view of a study's runs as the value of its tag.

    Of a search: the outcome, the score, the mean over unseen sets, the ``searched`` parameters and every target, the
    best score first. Of an ablation: arm, seed and fold in place of score and parameters, arm by arm.
    """
    metric = question.get("ablation", {}).get("primary", "dice").rpartition("/")[2]
    unseen, targets = f"unseen/{metric}", [f"test/{target}/{metric}" for target in question["targets"]]
    if "ablation" in question:
        order, ascending = _column("params", "arm"), True
        first = [*_columns("params", ["arm", "seed", "fold"]), _column("metrics", unseen)]
    else:
        order, ascending = _column("metrics", "score"), False
        first = [*_columns("metrics", ["score", unseen]), *_columns("params", searched)]
    columns = [_column("tags", "outcome"), *first, *_columns("metrics", targets)]
    state = {
        "searchFilter": of_study(study),
        "orderByKey": order,
        "orderByAsc": ascending,
        "selectedColumns": columns,
        "columnOrder": columns,
        "hideEmptyCharts": True,
    }
    return json.dumps({"name": study, "createdAt": _SINCE, "updatedAt": _SINCE, "state": json.dumps(state)})


def link(server: str, experiment: str, study: str) -> str:
    """The address of a study's saved view on the pages of ``server``."""
    view = f"workflowType=machine_learning&viewStateShareKey={_key(study)}"
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{view}"


def _key(study: str) -> str:
    """A name of ``study`` that a tag and an address take, whatever characters the study's has."""
    return hashlib.sha256(study.encode()).hexdigest()[:12]


def of_study(study: str, role: Literal["study", "trial"] | None = None) -> str:
    """MLflow's filter for the runs of ``study``: its own, those of its trials, or both.

    MLflow's strings have no escape: it refuses a name with both kinds of quotes.
    """
    quote = '"' if "'" in study else "'"
    mine = f"tags.`sam2lora.study` = {quote}{study}{quote}"
    return mine if role is None else f"{mine} and tags.`sam2lora.role` = '{role}'"


def _columns(kind: str, names: Sequence[str]) -> list[str]:
    return [_column(kind, name) for name in names]


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"
