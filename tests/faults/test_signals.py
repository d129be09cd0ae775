"""Ctrl-C and the end of a job's time, sent to all processes of the command: while it starts, trains and reports."""

from __future__ import annotations

import os
import random
import signal

import pytest

from .conftest import Fault
from .study import Running, Study
from .test_kills import report, training


def announced(study: Study, running: Running, moments: random.Random) -> bool:
    """While Ray starts: earlier, before it has said a word, a command dies as any does."""
    return running.wait_for(lambda: "Does a tiny grid survive?" in running.output()) and running.pause(
        moments.uniform(0, 5)
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signals(number: signal.Signals, fault: Fault) -> None:
    moments = random.Random(number)
    with fault(f"{number.name} to all processes of the command", tries=4) as study:
        for moment in (announced, announced, training, report):
            with study.started() as running:
                assert moment(study, running, moments), running.output()
                os.killpg(running.process.pid, number)
                status, output = running.end()
            assert status == 128 + number, output
            assert "Traceback" not in output
            assert "Run the same command again to continue" in output
        study.finish()
