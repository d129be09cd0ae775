"""Trials whose losses become NaN, or that need more memory than they get, among others that do not."""

from __future__ import annotations

from .conftest import Fault
from .study import SPACE

SIZES = "SIZES = {1: 64, 2: 64, 4: 768}\n\ndef space"
SPACE_WITH_BOTH = (
    SPACE.replace("(1e-3, 3e-3)", "(1e-3, 3e-3, 1e30)")
    .replace("(1, 2)", "(1, 2, 4)")
    .replace("def space", SIZES)
    .replace("image_size=64", 'image_size=SIZES[trial.params["rank"]]')
    .replace("trials=4", "trials=9")
)


def test_trials_that_diverge_and_trials_that_do_not_fit(fault: Fault) -> None:
    environment = {"FAULTS_MIB": "600"}
    name = "losses NaN in two trials of eleven, too little memory for three"
    with fault(name, tries=5, space=SPACE_WITH_BOTH, environment=environment) as study:
        study.finish()
        kinds = [kind for kind, _ in study.results().values()]
        assert {kind: kinds.count(kind) for kind in kinds} == {"completed": 6, "diverged": 2, "out_of_memory": 3}
