"""One table over the ablations of several models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from harness.reports.ablation.across_models import COLUMNS, _agreement, _together, markdown, summary
from harness.reports.search.across_models import write
from harness.simulation.examples import loss_components
from harness.simulation.study import write as record


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Three models of three comparisons each, drawn from three seeds."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = tmp_path_factory.mktemp("several")
    url = f"sqlite:///{folder / 'optuna.db'}"
    names = []
    for seed in range(3):
        study = loss_components(seed=seed)
        study = study.__class__(**{**vars(study), "name": f"{study.name}/dataset={seed}"})
        record(study, url, folder)
        names.append(study.name)
    return summary(url, names, folder)


def test_every_comparison_has_a_line_for_each_model_and_their_mean(frame: pd.DataFrame) -> None:
    assert tuple(frame.columns) == COLUMNS
    for _, own in frame.groupby("comparison"):
        models, mean = own[own["study"] != ""], own[own["study"] == ""].iloc[0]
        assert len(models) == mean["models"] == 3
        assert mean["effect"] == pytest.approx(models["effect"].mean())
        assert (mean["lowest"], mean["highest"]) == (models["effect"].min(), models["effect"].max())
        assert np.isnan(mean[["low", "high"]].astype(float)).all(), "models share seeds and sets: no interval over them"
        assert np.isnan(mean["holm_p"]), "no verdict is made from a mean over models"


def test_the_text_states_the_number_of_models_and_what_their_mean_is_not(frame: pd.DataFrame, tmp_path: Path) -> None:
    text, data = write(frame, markdown(frame), tmp_path / "s")
    told = text.read_text()
    assert told.count("**mean, n = 3**") == frame["comparison"].nunique() == 3
    assert "not independent" in told
    assert "No verdict rests on them" in told
    assert len(pd.read_csv(data)) == len(frame)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["undecided: 7 more replicates", "undecided: no number of replicates would do"], "all 2: undecided"),
        (["matters: helps"] * 3, "all 3: matters: helps"),
        (
            [
                "helps, perhaps too little to matter: 1 more replicate",
                "helps, perhaps too little to matter: 9 more replicates",
            ],
            "all 2: helps, perhaps too little to matter",
        ),
        (["does not matter on average", "does not matter"], "differ: 1 does not matter on average, 1 does not matter"),
        (["matters: helps", "matters: hurts"], "differ: 1 matters: helps, 1 matters: hurts"),
        (["does not matter"], "does not matter"),
    ],
)
def test_whether_verdicts_agree_is_told(verdicts: list[str], said: str) -> None:
    assert _agreement(pd.Series(verdicts)) == said


def test_two_models_have_a_mean_and_none_a_sentence(frame: pd.DataFrame) -> None:
    two = frame[frame["study"] != ""].groupby("comparison").head(2)
    name, own = next(iter(two.groupby("comparison")))
    row = _together(str(name), own).iloc[0]
    assert row["effect"] == pytest.approx(own["effect"].mean())
    assert row["models"] == 2
    assert "No model has test scores" in "\n".join(markdown(frame.head(0)))
