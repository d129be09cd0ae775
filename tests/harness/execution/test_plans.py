"""A command line of the search becomes one study, or one for each model of the protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import search
from harness.execution.plan import plan_search, plan_studies
from harness.experiments.space import typical_settings
from sam2lora.protocols import LeaveOneDatasetOut, PerDataset, Protocol


def planned(*options: str) -> dict[str, Protocol]:
    """The protocols of a command line by the names of their studies."""
    arguments = search.parser().parse_args(["loss_weights", *options])
    typical = typical_settings(plan_search(arguments).space)
    plans = plan_studies(arguments, "as typed", typical.protocol)
    assert all(plan.folder == Path("runs").resolve() / plan.study for plan in plans)
    return {plan.study: plan.overrides.apply(typical).protocol for plan in plans}


@pytest.mark.parametrize(("kind", "field"), [(LeaveOneDatasetOut, "held_out"), (PerDataset, "dataset")])
def test_every_model_is_a_study_of_its_own(kind: type[LeaveOneDatasetOut | PerDataset], field: str) -> None:
    found = planned("--protocol", kind.kind, "--datasets", "alder,birch,cedar", "--study", "s", "--structure", "disc")
    assert list(found) == [f"s/{field}={name}" for name in ("alder", "birch", "cedar")]
    for study, protocol in found.items():
        assert isinstance(protocol, kind)
        assert getattr(protocol, field) == study.partition("=")[2]
        assert {dataset.target for dataset in protocol.datasets} == {"disc"}


@pytest.mark.parametrize(
    "options",
    [(), ("--protocol", "pooled"), ("--protocol", "few_shot", "--shots", "2"), ("--sources", "elm", "--targets", "")],
)
def test_one_model_is_one_study(options: tuple[str, ...]) -> None:
    assert list(planned(*options)) == ["loss_weights"]
