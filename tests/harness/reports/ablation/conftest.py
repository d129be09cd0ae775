"""Records of simulated ablations, written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from harness.record.table import StudyTable, read
from harness.simulation.examples import loss_components
from harness.simulation.study import SimulatedStudy, write


@pytest.fixture(autouse=True, scope="session")
def _without_messages() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SimulatedStudy], tuple[StudyTable, Path]]:
    """The tables and the folder of a simulated study, through its record."""

    def make(study: SimulatedStudy) -> tuple[StudyTable, Path]:
        folder = tmp_path_factory.mktemp(study.name.replace("/", "_"))
        url = f"sqlite:///{folder / 'optuna.db'}"
        write(study, url, folder)
        return read(url, study.name, folder), folder

    return make


@pytest.fixture(scope="session")
def study() -> SimulatedStudy:
    """Loss components with two trials without a result."""
    return loss_components()


@pytest.fixture(scope="session")
def table(study: SimulatedStudy, recorded: Callable[[SimulatedStudy], tuple[StudyTable, Path]]) -> StudyTable:
    """The tables of ``study``. Read only."""
    return recorded(study)[0]
