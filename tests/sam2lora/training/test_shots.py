"""A few patients of a target join the training; its test part never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.errors import DataError
from sam2lora.evaluate import single_predictor
from sam2lora.protocols import FewShot
from sam2lora.runtime import Runtime
from sam2lora.training.batches import batches
from sam2lora.training.loop import epoch
from sam2lora.training.parts import check_parts, training_images
from sam2lora.training.scoring import final_scores, validate_each
from sam2lora.training.session import Session, open_sets, start

SOURCE = Synthetic(hospital="alder", images=18, size=64)
TARGET = Synthetic(hospital="cedar", images=40, size=64)


def session(tiny: TrialConfig, runtime: Runtime, shots: int, *, sources: bool = True, seed: int = 0) -> Session:
    protocol = FewShot(sources=(SOURCE,) if sources else (), targets=(TARGET,), shots=shots)
    return start(replace(tiny, protocol=protocol), Replicate(seed=seed), runtime)


def given(trial: Session) -> list[int]:
    """Indices of the target's images that train."""
    return [image for s, image in trial.training if s == len(trial.sources)]


def patients(trial: Session) -> set[str]:
    return {trial.given[0].patients[image] for image in given(trial)}


@pytest.mark.parametrize("sources", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_whole_patients_of_the_development_part_outside_the_fold_are_given(
    tiny: TrialConfig, runtime: Runtime, sources: bool, seed: int
) -> None:
    trial = session(tiny, runtime, 3, sources=sources, seed=seed)
    target = trial.given[0]
    assert len(patients(trial)) == 3
    assert given(trial) == [i for i, patient in enumerate(target.patients) if patient in patients(trial)]
    assert not {target.splits[image] for image in given(trial)} & {"test", "0"}


def test_the_sources_train_as_ever(tiny: TrialConfig, runtime: Runtime) -> None:
    trial = session(tiny, runtime, 2)
    own = [pair for pair in trial.training if pair[0] == 0]
    assert tuple(own) == training_images(open_sets((SOURCE,), 64, runtime), 0)
    assert len(trial.training) == len(own) + 4


def test_fewer_patients_are_among_more_and_other_seeds_draw_others(tiny: TrialConfig, runtime: Runtime) -> None:
    drawn = [patients(session(tiny, runtime, shots)) for shots in (1, 2, 4)]
    assert drawn[0] < drawn[1] < drawn[2]
    assert len({frozenset(patients(session(tiny, runtime, 2, seed=seed))) for seed in range(8)}) > 4
    assert patients(session(tiny, runtime, 2, sources=False)) == drawn[1], "with sources or without: paired"


def test_what_is_drawn_is_what_the_batches_hold(tiny: TrialConfig, runtime: Runtime) -> None:
    trial = session(tiny, runtime, 1, sources=False)
    seen = {image.mul(255).round().byte().numpy().tobytes() for images, _, _ in batches(trial, 1) for image in images}
    assert seen == {trial.given[0].images[i].transpose(2, 0, 1).tobytes() for i in given(trial)}


def test_only_sources_validate_where_there_are_any(tiny: TrialConfig, runtime: Runtime) -> None:
    trial = session(tiny, runtime, 2)
    with single_predictor(trial.segmenter) as predictor:
        (score,) = validate_each([trial], predictor)
    assert set(score) == {"score", "alder/dice"}


def test_without_sources_the_fold_of_the_target_validates_and_the_test_part_judges(
    tiny: TrialConfig, runtime: Runtime
) -> None:
    trial = session(tiny, runtime, 2, sources=False)
    check_parts(trial.sources, 0)
    entry = epoch(trial)
    assert entry["score"] == entry["cedar/dice"]
    rows = final_scores(trial)
    target = trial.given[0]
    assert list(rows["image"]) == [i for i, split in zip(target.ids, target.splits, strict=True) if split == "test"]
    assert not set(rows["patient"]) & patients(trial)


def test_a_target_that_gave_patients_says_so_in_every_row(tiny: TrialConfig, runtime: Runtime) -> None:
    rows = final_scores(session(tiny, runtime, 2))
    assert rows.groupby("dataset")[["role", "given"]].agg(set).to_dict("index") == {
        "alder": {"role": {"source"}, "given": {0}},
        "cedar": {"role": {"target"}, "given": {4}},
    }


def test_patients_that_are_not_there_are_refused(tiny: TrialConfig, runtime: Runtime) -> None:
    with pytest.raises(DataError, match=r"'cedar' has 12 outside the test part and fold 0, and shots is 13: lower"):
        session(tiny, runtime, 13)


@pytest.mark.parametrize(
    ("images", "fold", "message"),
    [
        (6, 0, "tested on its test part, but 'cedar' has none"),
        (8, 4, "Without sources .* 'cedar' has no image in fold 4"),
    ],
)
def test_parts_that_are_not_there_are_refused(
    tiny: TrialConfig, runtime: Runtime, images: int, fold: int, message: str
) -> None:
    protocol = FewShot(targets=(replace(TARGET, images=images),), shots=1)
    with pytest.raises(DataError, match=message):
        start(replace(tiny, protocol=protocol), Replicate(fold=fold), runtime)  # type: ignore[arg-type]
