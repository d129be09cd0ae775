"""The command is killed at random moments, five times one after the other; the same command continues each time."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

import pytest

from .conftest import Fault
from .study import Running, Study

START_UP = 12.0  # seconds within which a start-up is hit: loading libraries, Ray, both databases


def start_up(study: Study, running: Running, moments: random.Random) -> bool:
    return running.pause(moments.uniform(0, START_UP))


def training(study: Study, running: Running, moments: random.Random) -> bool:
    """After one to three further epochs, and some part of the next."""
    wanted = len(study.trained()) + moments.randint(1, 3)
    return running.wait_for(lambda: len(study.trained()) >= wanted) and running.pause(moments.uniform(0, 0.5))


def mlflow_write(study: Study, running: Running, moments: random.Random) -> bool:
    """After one to thirty transactions of MLflow's file."""
    seen: set[tuple[int, int]] = set()

    def written() -> bool:
        log = study.out / "mlflow.db-wal"
        if log.exists():
            seen.add((log.stat().st_mtime_ns, log.stat().st_size))
        return len(seen) > wanted

    wanted = moments.randint(1, 30)
    return running.wait_for(written)


def report(study: Study, running: Running, moments: random.Random) -> bool:
    folder = study.out / "tiny" / "report"
    return running.wait_for(folder.exists) and running.pause(moments.uniform(0, 1))


Moment = Callable[[Study, Running, random.Random], bool]


@pytest.mark.parametrize("seed", range(4))
def test_kills_of_the_driver(seed: int, fault: Fault) -> None:
    moments = random.Random(seed)
    chain: list[Moment] = [start_up, training, mlflow_write, moments.choice([start_up, training, mlflow_write])]
    moments.shuffle(chain)
    with fault("driver killed (SIGKILL)", tries=5) as study:
        for moment in (*chain, report):
            with study.started() as running:
                assert moment(study, running, moments), running.output()
                assert running.kill() == -signal.SIGKILL
        study.finish()
