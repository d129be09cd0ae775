"""A process of Ray's is killed while a search trains: one message, and the same command ends it without loss."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.harness.test_search_command import (
    cache,
    check_consistent,
    project,
    run,
    started,
    wait_until_a_trial_advanced,
)

__all__ = ["cache", "project"]

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_search_whose_ray_dies_ends_in_one_message(project: Path, cache: Path, victim: str) -> None:
    with started(project, cache) as process:
        wait_until_a_trial_advanced(project, process)
        (killed,) = (child for child in psutil.Process(process.pid).children(recursive=True) if child.name() == victim)
        killed.kill()
        output, _ = process.communicate()
    assert process.returncode == 2, output
    assert output.count("error: ") == 1
    assert f"its process {victim} died" in output
    assert "run the same command again" in output
    assert not any(noise in output for noise in ("state-dump", "rpc_client", "Traceback", "(raylet)")), output
    status, output = run(project, cache)
    assert status == 0, output
    check_consistent(project, 4)
