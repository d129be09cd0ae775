"""Thresholds: the best on validation by trying every one, and nothing of a target in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import logit

from sam2lora.adapters import LoRA
from sam2lora.backbones import Nano
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import CachedSet, Synthetic
from sam2lora.errors import DataError
from sam2lora.evaluate import evaluate_each, single_predictor, summary
from sam2lora.metrics import Histogram, confusion, histogram
from sam2lora.protocols import FewShot, Transfer
from sam2lora.runtime import Runtime
from sam2lora.thresholds import ChosenOnValidation, Fixed
from sam2lora.training import scoring
from sam2lora.training.parts import validation_images
from sam2lora.training.scoring import final_scores
from sam2lora.training.session import Session, start

Pair = tuple[NDArray[np.float32], NDArray[np.bool_]]


def pair(seed: int, shift: float) -> Pair:
    rng = np.random.default_rng(seed)
    mask = rng.random((30, 40)) < 0.2
    return (rng.normal(shift, 2, mask.shape) + 3 * mask).astype(np.float16).astype(np.float32), mask


Curve = NDArray[np.float64]


def curve(histogram: Histogram) -> Curve:
    return histogram.dice(logit(ChosenOnValidation().candidates))


def curves(sources: list[list[Pair]]) -> list[list[Curve]]:
    return [[curve(histogram(*each)) for each in images] for images in sources]


def tried(sources: list[list[Pair]], probability: float) -> float:
    """The objective with this threshold, by evaluating every image again."""
    cut = float(np.log(probability / (1 - probability)))
    return float(np.mean([np.mean([confusion(*each, None, cut).dice for each in images]) for images in sources]))


def test_a_fixed_threshold_looks_at_no_image() -> None:
    assert Fixed().find([]) == 0.5
    assert Fixed(probability=0.3).find([]) == 0.3
    assert len(Fixed(probability=0.3).candidates) == 0


@pytest.mark.parametrize("shift", [-3.0, -1.0, 0.0, 2.0])
def test_the_chosen_threshold_is_the_best_of_all(shift: float) -> None:
    sources = [[pair(0, shift), pair(1, shift)], [pair(2, shift + 1)]]
    found = ChosenOnValidation().find(curves(sources))
    every = [tried(sources, k / 1000) for k in range(1, 1000)]
    assert tried(sources, found) == pytest.approx(max(every), abs=1e-12)
    assert tried(sources, found) >= tried(sources, 0.5)


def test_higher_logits_ask_for_a_higher_threshold() -> None:
    low, high = (ChosenOnValidation().find(curves([[pair(0, shift)]])) for shift in (-3, 2))
    assert low < high


def test_sources_have_equal_weight_whatever_their_size() -> None:
    few, many = pair(0, -3), pair(1, 3)
    once = ChosenOnValidation().find(curves([[few], [many]]))
    assert ChosenOnValidation().find(curves([[few], [many] * 50])) == once
    assert ChosenOnValidation().find(curves([[few, *[many] * 50]])) != once


def test_of_equally_good_ones_the_nearest_to_one_half_is_chosen() -> None:
    mask = np.array([[True, False]])

    def best(low: float, high: float) -> float:
        logits = np.log(np.array([[high, low]]) / (1 - np.array([[high, low]])))
        return ChosenOnValidation().find([[curve(histogram(logits, mask))]])

    assert best(0.1, 0.9) == 0.5
    assert best(0.6015, 0.9) == 0.602
    assert best(0.1, 0.3985) == 0.398
    empty = curve(histogram(np.array([[-3.0, -4.0]]), np.array([[False, False]])))
    assert ChosenOnValidation().find([[empty]]) == 0.5


def test_an_image_without_a_pixel_is_left_out_and_a_source_without_images_refused() -> None:
    logits, mask = pair(0, 1)
    nothing, whole = curve(histogram(logits, mask, np.zeros_like(mask))), curve(histogram(logits, mask))
    alone = ChosenOnValidation().find([[whole]])
    assert ChosenOnValidation().find([[nothing, whole]]) == alone
    for sources in ([[nothing]], [[]], [[whole], []], list[list[Curve]]()):
        with pytest.raises(DataError, match="fixed threshold"):
            ChosenOnValidation().find(sources)


# Judging a trial.


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(cache=tmp_path_factory.mktemp("cache"))


CONFIG = TrialConfig(
    protocol=Transfer(
        sources=(Synthetic(hospital="alder", images=14, size=64), Synthetic(hospital="birch", images=14, size=64)),
        targets=(Synthetic(hospital="cedar", images=4, size=64),),
    ),
    backbone=Nano(weights="random"),
    adapters=(LoRA(rank=1, alpha=1.0),),
    threshold=ChosenOnValidation(),
    image_size=64,
    epochs=1,
)


@pytest.fixture(scope="module")
def session(runtime: Runtime) -> Session:
    return start(CONFIG, Replicate(fold=1), runtime)


@pytest.fixture(scope="module")
def rows(session: Session) -> pd.DataFrame:
    return final_scores(session)


def test_every_row_of_a_judged_trial_holds_the_threshold(session: Session, rows: pd.DataFrame) -> None:
    assert set(rows["role"]) == {"source", "target"}
    assert rows["threshold"].nunique() == 1
    fixed = final_scores(replace_config(session, Fixed()))
    assert set(fixed["threshold"]) == {0.5}
    assert rows["threshold"].iloc[0] != 0.5
    assert rows["auc"].tolist() == fixed["auc"].tolist()
    assert rows["ece"].tolist() == fixed["ece"].tolist()
    assert rows["dice"].tolist() != fixed["dice"].tolist()
    same = final_scores(replace_config(session, Fixed(probability=float(rows["threshold"].iloc[0]))))
    pd.testing.assert_frame_equal(same, rows)


def replace_config(session: Session, threshold: Fixed | ChosenOnValidation) -> Session:
    return replace(session, config=replace(session.config, threshold=threshold))


def test_it_is_the_best_on_the_validation_images_of_the_sources(session: Session, rows: pd.DataFrame) -> None:
    def validated(probability: float) -> float:
        scores = []
        for source in session.sources:
            images = validation_images(source, 1)
            with single_predictor(session.segmenter) as predictor:
                (found,) = evaluate_each(
                    predictor, source, images, session.config.test_prompt, session.runtime,
                    role="val", seed=0, metrics="dice", probabilities=(probability,),
                )  # fmt: skip
            scores.append(next(iter(summary(found).values())))
        return float(np.mean(scores))

    chosen = float(rows["threshold"].iloc[0])
    assert validated(chosen) >= max(validated(p) for p in (0.01, 0.1, 0.3, 0.5, 0.7)) - 1e-3


def test_nothing_of_a_target_or_a_test_image_enters_it(
    session: Session, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same without targets and with others, and only validation images are opened for it."""
    for targets in ((), (Synthetic(hospital="fir", images=4, size=64),)):
        protocol = replace(CONFIG.protocol, targets=targets)
        other = final_scores(replace(session, config=replace(CONFIG, protocol=protocol)))
        assert set(other["threshold"]) == set(rows["threshold"])
    read: list[tuple[str, int]] = []
    native = CachedSet.native

    def noted(self: CachedSet, index: int) -> object:
        read.append((self.dataset.name, index))
        return native(self, index)

    monkeypatch.setattr(CachedSet, "native", noted)
    monkeypatch.setattr(scoring, "evaluation_sets", lambda _: [])
    final_scores(session)
    allowed = {(source.dataset.name, i) for source in session.sources for i in validation_images(source, 1)}
    assert set(read) == allowed


def test_validation_after_an_epoch_uses_one_half(session: Session) -> None:
    with single_predictor(session.segmenter) as predictor:
        one, other = (
            scoring.validate_each([each], predictor)
            for each in (session, replace_config(session, Fixed(probability=0.9)))
        )
    assert one == other


def test_a_threshold_is_not_chosen_where_no_source_validates() -> None:
    alder, birch = (Synthetic(hospital=name, images=10, size=64) for name in ("alder", "birch"))
    alone, joined = FewShot(targets=(birch,), shots=1), FewShot(sources=(alder,), targets=(birch,), shots=1)
    with pytest.raises(ValidationError, match=r"validation images of sources, but 'few_shot' has none: .*Fixed\(\)"):
        TrialConfig(protocol=alone, threshold=ChosenOnValidation())
    assert TrialConfig(protocol=alone).threshold == Fixed()
    assert TrialConfig(protocol=joined, threshold=ChosenOnValidation()).threshold == ChosenOnValidation()
