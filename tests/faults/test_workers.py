"""A process that trains is killed at random moments; the run itself goes on."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress

import pytest

from .conftest import Fault
from .study import EPOCHS, Running, Study


def kill_trainers(study: Study, running: Running, moments: random.Random, most: int) -> int:
    """Kill the process of up to ``most`` trials, each once, in the middle of its second or third epoch; how many."""
    struck: set[str] = set()

    def trained() -> Counter[str]:
        return Counter(key for key, _ in study.trained())

    def vulnerable() -> set[str]:
        return {key for key, times in trained().items() if times < EPOCHS} - struck

    while len(struck) < most and running.wait_for(vulnerable):
        key = min(vulnerable())
        struck.add(key)
        process = next(process for known, process in reversed(study.trained()) if known == key)
        running.pause(moments.uniform(0, 0.1))
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return len(struck)


@pytest.mark.parametrize("seed", range(2))
def test_kills_of_workers(seed: int, fault: Fault) -> None:
    with fault("worker of a trial killed", tries=5) as study:
        with study.started() as running:
            assert kill_trainers(study, running, random.Random(seed), most=5) == 5
            status, output = running.end()
        assert status == 0, output


@pytest.mark.parametrize("seed", range(2))
def test_kills_of_engines(seed: int, fault: Fault) -> None:
    """Trials of a pack share one engine. More deaths than it is started again end the run, not the study."""
    moments = random.Random(seed)
    with fault("engine of a pack killed", tries=5, arguments=("--pack",)) as study:
        kills = 0
        while kills < 5:
            with study.started() as running:
                while kills < 5:
                    wanted = len(study.trained()) + moments.randint(1, 2)
                    if not running.wait_for(lambda wanted=wanted: len(study.trained()) >= wanted):
                        break
                    with suppress(ProcessLookupError):
                        os.kill(study.trained()[-1][1], signal.SIGKILL)
                        kills += 1
                running.end()
        study.finish()
