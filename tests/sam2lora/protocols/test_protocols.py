"""Protocols: which sets train and which judge, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sam2lora.choice import from_json, kinds, to_json
from sam2lora.datasets import HRF, Dataset, DrishtiGS1, Drive, Fives, Idrid, Stare
from sam2lora.errors import DataError, OverlapError
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, PerDataset, Pooled, Protocol, Transfer

SETS: tuple[Dataset, ...] = (Drive(), Stare(), HRF())
PROTOCOLS: list[Any] = [
    Transfer(sources=SETS[:2], targets=SETS[2:]),
    Pooled(datasets=SETS),
    PerDataset(datasets=SETS, dataset="stare"),
    LeaveOneDatasetOut(datasets=SETS, held_out="stare"),
    FewShot(sources=SETS[:2], targets=SETS[2:], shots=2),
    FewShot(targets=SETS[2:], shots=2),
]
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.kind)


def names(datasets: tuple[Dataset, ...]) -> list[str]:
    return [dataset.name for dataset in datasets]


@pytest.mark.parametrize(
    ("protocol", "sources", "targets", "images", "shots"),
    [
        (PROTOCOLS[0], ["drive", "stare"], ["hrf"], "all", 0),
        (PROTOCOLS[1], ["drive", "stare", "hrf"], [], "test", 0),
        (PROTOCOLS[2], ["stare"], [], "test", 0),
        (PROTOCOLS[3], ["drive", "hrf"], ["stare"], "all", 0),
        (PROTOCOLS[4], ["drive", "stare"], ["hrf"], "test", 2),
        (PROTOCOLS[5], [], ["hrf"], "test", 2),
    ],
)
def test_what_trains_and_what_judges(
    protocol: Any, sources: list[str], targets: list[str], images: str, shots: int
) -> None:
    assert names(protocol.sources) == sources
    assert names(protocol.targets) == targets
    assert (protocol.target_images, protocol.shots) == (images, shots)


@every_protocol
def test_a_protocol_is_one_of_its_models_and_all_of_them_list_the_same(protocol: Any) -> None:
    models = protocol.every()
    assert protocol in models
    assert len(set(models)) == len(models)
    assert all(model.every() == models for model in models)
    assert all(type(model) is type(protocol) for model in models)


def test_the_family_is_complete() -> None:
    assert set(kinds(Protocol).values()) == {type(protocol) for protocol in PROTOCOLS}


@every_protocol
def test_a_model_never_trains_on_a_set_that_judges_it(protocol: Any) -> None:
    for model in protocol.every():
        assert not set(names(model.sources)) & set(names(model.targets))


def test_every_set_has_a_model_of_its_own() -> None:
    assert [names(model.sources) for model in PROTOCOLS[2].every()] == [["drive"], ["stare"], ["hrf"]]


def test_every_set_is_held_out_once_and_trains_otherwise() -> None:
    models = PROTOCOLS[3].every()
    assert [names(model.targets) for model in models] == [["drive"], ["stare"], ["hrf"]]
    assert all(sorted(names(m.sources) + names(m.targets)) == ["drive", "hrf", "stare"] for m in models)


# One set of patients under two names, as RITE is DRIVE and REFUGE 1 lies in REFUGE 2.
ONE, COPY, OTHER = DrishtiGS1(), DrishtiGS1(copy="1024"), Idrid()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Transfer, {"sources": (ONE, COPY), "targets": (OTHER,)}),
        (Transfer, {"sources": (ONE, OTHER), "targets": (COPY,)}),
        (Pooled, {"datasets": (ONE, OTHER, COPY)}),
        (LeaveOneDatasetOut, {"datasets": (ONE, OTHER, COPY), "held_out": ONE.name}),
        (LeaveOneDatasetOut, {"datasets": (ONE, OTHER, COPY), "held_out": OTHER.name}),
        (FewShot, {"sources": (ONE,), "targets": (COPY,), "shots": 1}),
        (FewShot, {"sources": (ONE, COPY), "targets": (OTHER,), "shots": 1}),
        (FewShot, {"targets": (ONE, COPY), "shots": 1}),
    ],
)
def test_sets_that_share_patients_never_meet_in_a_model(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(OverlapError, match=r"share drishti_gs1: leave one of the two out"):
        kind(**values)


def test_sets_that_share_patients_may_judge_together_and_have_models_of_their_own() -> None:
    assert names(Transfer(sources=(OTHER,), targets=(ONE, COPY)).targets) == [ONE.name, COPY.name]
    assert len(PerDataset(datasets=(ONE, COPY), dataset=COPY.name).every()) == 2


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Pooled, {"datasets": (Drive(), Drive())}, "'drive' is named twice"),
        (PerDataset, {"datasets": (Drive(), Drive()), "dataset": "drive"}, "'drive' is named twice"),
        (LeaveOneDatasetOut, {"datasets": (Drive(), Drive()), "held_out": "drive"}, "'drive' is named twice"),
        (FewShot, {"sources": (Drive(), Drive()), "targets": (Fives(),), "shots": 1}, "'drive' is named twice"),
        (Transfer, {"sources": (Drive(),), "targets": (Fives(), Fives())}, "'fives' is named twice"),
        (Pooled, {"datasets": (Drive(), ONE)}, "'drive' holds vessel masks and 'drishti_gs1' disc masks"),
        (LeaveOneDatasetOut, {"datasets": (Drive(), ONE), "held_out": "drive"}, "run two studies"),
        (FewShot, {"sources": (Drive(),), "targets": (ONE,), "shots": 1}, "run two studies"),
    ],
)
def test_a_set_is_named_once_and_all_show_one_structure(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        kind(**values)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (PerDataset, {"datasets": SETS, "dataset": "fives"}, "dataset must be .* 'fives': choose one of drive, stare"),
        (LeaveOneDatasetOut, {"datasets": SETS, "held_out": "rite"}, "held_out must be .* 'rite': choose one of drive"),
        (LeaveOneDatasetOut, {"datasets": SETS[:1], "held_out": "drive"}, "at least 2 items"),
        (Pooled, {"datasets": ()}, "at least 1 item"),
        (FewShot, {"targets": (), "shots": 1}, "at least 1 item"),
        (FewShot, {"targets": SETS, "shots": 0}, "greater than or equal to 1"),
    ],
)
def test_what_no_protocol_can_be_is_refused(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**values)


@every_protocol
def test_a_trial_says_which_model_it_is(protocol: Any) -> None:
    texts = [to_json(model) for model in protocol.every()]
    assert len(set(texts)) == len(texts)
    assert [from_json(type(protocol), text) for text in texts] == list(protocol.every())
