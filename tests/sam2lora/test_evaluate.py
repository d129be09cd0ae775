"""Rows of scores: native resolution, field of view, and no trace left in the model."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sam2lora.backbones import Nano
from sam2lora.datasets import CachedSet, Native, Synthetic, cached, to_native
from sam2lora.evaluate import dice_curves, evaluate_each, n_undefined, predict, single_predictor, summary
from sam2lora.metrics import METRICS, NotNumbers
from sam2lora.models.build import build
from sam2lora.models.segmenter import Prediction, Segmenter
from sam2lora.prompts import NoPrompt, Points, Prompt
from sam2lora.runtime import Runtime

SIZE = 64


class Redness(nn.Module):
    """A segmenter that calls red pixels vessels, at half resolution, and raises the logit by points on the object.

    Its dropout would make any result random if it were left in training mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))
        self.noise = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(3)
        self.batches: list[int] = []

    def forward(self, images: Tensor, points: tuple[Tensor, Tensor] | None = None) -> Prediction:
        assert not torch.is_grad_enabled()
        assert not self.training
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
        self.batches.append(len(images))
        logits = self.noise(self.scale * (images[:, :1] - images[:, 1:2]) - 12)[..., ::2, ::2]
        if points is None:
            return Prediction(logits)
        coords, labels = points
        return Prediction(logits + ((labels == 1) * coords[..., 0]).mean(1)[:, None, None, None] / 8)


@dataclass(frozen=True)
class Named:
    name: str = "fake"


class Fake:
    """A set of four images whose frame is all red; ``native`` is made on demand."""

    dataset = Named()

    def __init__(self, side: int = 160, size: int = 32) -> None:
        self.ids, self.patients = ("a", "b", "c", "d"), ("p", "p", "q", "q")
        self.images = np.zeros((4, size, size, 3), np.uint8)
        self.images[..., 0] = 255
        self.masks = np.ones((4, size, size), np.uint8)
        self.side, self.size = side, size

    def native(self, index: int) -> Native:
        mask = np.zeros((self.side, self.side), bool)
        mask[:, :: index + 1] = True  # lines one pixel wide: the frame cannot hold them
        fov = np.zeros_like(mask)
        fov[10:-10] = True
        return Native(mask, fov, (10, 0, self.side - 10, self.side), (self.size * 7 // 8, self.size))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> CachedSet:
    cache = tmp_path_factory.mktemp("cache")
    return cached(Synthetic(hospital="alder", images=6, size=96), None, SIZE, cache)


@pytest.fixture
def redness() -> Redness:
    return Redness()


def run(segmenter: Any, opened: Any, indices: Any = None, prompt: Prompt | None = None, **options: Any) -> pd.DataFrame:
    options = {"role": "val", "seed": 3, "runtime": Runtime()} | options
    options["probabilities"] = (options.pop("probability", 0.5),)
    indices = range(len(opened.ids)) if indices is None else indices
    with single_predictor(segmenter) as predictor:
        (rows,) = evaluate_each(predictor, opened, indices, prompt or NoPrompt(), **options)
    return rows


def test_a_row_names_its_image_and_holds_every_metric(hospital: CachedSet, redness: Redness) -> None:
    rows = run(redness, hospital, [4, 1], role="target")
    assert list(rows) == ["dataset", "role", "image", "patient", *METRICS, "pixels", "threshold"]
    assert rows["image"].tolist() == [hospital.ids[4], hospital.ids[1]]
    assert rows["patient"].tolist() == [hospital.patients[4], hospital.patients[1]]
    assert set(rows["dataset"]) == {"alder"}
    assert set(rows["role"]) == {"target"}
    assert rows["pixels"].tolist() == [hospital.native(4).fov.sum(), hospital.native(1).fov.sum()]


@pytest.mark.parametrize("threads", [2, 9])
def test_rows_do_not_depend_on_the_threads_that_measure(hospital: CachedSet, redness: Redness, threads: int) -> None:
    rows = run(redness, hospital, [5, 0, 3, 2, 1], runtime=Runtime(threads=threads), batch_size=2)
    pd.testing.assert_frame_equal(rows, run(redness, hospital, [5, 0, 3, 2, 1]))


def test_a_measurement_that_fails_in_a_thread_is_raised(redness: Redness, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(fake, "native", lambda index: (_ for _ in ()).throw(OSError(f"image {index} is gone")))
    with pytest.raises(OSError, match="image 0 is gone"):
        run(redness, fake, range(4), runtime=Runtime(threads=3))


def test_scores_are_those_of_the_native_mask_inside_the_field_of_view(hospital: CachedSet, redness: Redness) -> None:
    rows = run(redness, hospital)
    for index, row in rows.iterrows():
        native = hospital.native(index)
        pixels = torch.from_numpy(hospital.images[index] / np.float32(255)).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = redness.eval()(pixels).logits
        frame = interpolate(logits, size=(SIZE, SIZE), mode="bilinear")[0, 0].numpy()
        scores = to_native(frame, native)[native.fov]
        assert 0.05 < row["dice"] < 0.95
        assert row["dice"] == pytest.approx(f1_score(native.mask[native.fov], scores > 0), abs=1e-12)
        assert row["auc"] == pytest.approx(roc_auc_score(native.mask[native.fov], scores), abs=1e-4)


def test_thin_lines_that_the_frame_loses_still_count() -> None:
    """Against the frame's own mask the prediction is perfect; against the drawn one only every n-th column is right."""
    rows = run(Redness(), Fake())
    assert rows["dice"].tolist() == pytest.approx([1, 2 * 80 / 240, 2 * 54 / 214, 2 * 40 / 200])
    assert rows["pixels"].tolist() == [140 * 160] * 4


@pytest.mark.parametrize("prompt", [NoPrompt(), Points(positive=3)], ids=repr)
def test_rows_depend_neither_on_batches_nor_on_company(hospital: CachedSet, redness: Redness, prompt: Prompt) -> None:
    whole = run(redness, hospital, prompt=prompt, batch_size=4)
    assert redness.batches == [4, 2]
    pd.testing.assert_frame_equal(run(redness, hospital, prompt=prompt, batch_size=1), whole)
    some = run(redness, hospital, [5, 2, 0], prompt=prompt, batch_size=2)
    pd.testing.assert_frame_equal(some, whole.iloc[[5, 2, 0]].reset_index(drop=True))


def test_prompts_follow_the_seed(hospital: CachedSet, redness: Redness) -> None:
    none, first, again, other = (
        run(redness, hospital, prompt=prompt, seed=seed)["accuracy"].tolist()
        for prompt, seed in ((NoPrompt(), 0), (Points(), 0), (Points(), 0), (Points(), 1))
    )
    assert first == again
    assert first != none
    assert first != other


def test_dice_alone_is_the_same_dice(hospital: CachedSet, redness: Redness, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = run(redness, hospital)

    def refuse(*_: object) -> float:
        raise AssertionError("Dice alone was asked for")

    for costly in ("histogram", "distances", "boundary_iou", "cldice"):
        monkeypatch.setattr(f"sam2lora.metrics.{costly}", refuse)
    fast = run(redness, hospital, metrics="dice")
    assert list(fast) == ["dataset", "role", "image", "patient", "dice", "pixels", "threshold"]
    pd.testing.assert_frame_equal(fast, everything[list(fast)])


def test_the_probability_is_that_above_which_a_pixel_is_predicted(hospital: CachedSet, redness: Redness) -> None:
    """Where logits are lowered by as much as the threshold is, nothing that is thresholded changes."""
    half = run(redness, hospital)
    assert set(half["threshold"]) == {0.5}
    low = run(redness, hospital, probability=0.01)
    assert set(low["threshold"]) == {0.01}
    assert (low["sensitivity"] > half["sensitivity"]).all()
    assert low["auc"].tolist() == half["auc"].tolist()
    assert low["ece"].tolist() == half["ece"].tolist()

    class Lowered(Redness):
        def forward(self, images: Tensor, points: tuple[Tensor, Tensor] | None = None) -> Tensor:
            return Prediction(super().forward(images, points).logits - np.log(99))

    lowered = run(Lowered(), hospital)
    cut = [name for name in METRICS if name not in ("auc", "ece", "auc_full")]
    np.testing.assert_allclose(run(redness, hospital, probability=0.99)[cut], lowered[cut], rtol=1e-4)


def test_dice_curves_are_those_of_the_scored_logits_and_of_each_trial(hospital: CachedSet, redness: Redness) -> None:
    def both(images: torch.Tensor, points: tuple[Tensor, Tensor] | None) -> list[torch.Tensor]:
        return [redness(images, points).logits, redness(images, points).logits * nan]

    probabilities = (0.2, 0.5, 0.7)
    cuts = [np.log([p / (1 - p) for p in probabilities]), np.empty(0)]  # the second is not looked at
    for batch_size in (1, 4):
        with single_predictor(redness):
            found, nothing = dice_curves(
                both, hospital, [4, 1, 3], Points(), Runtime(), seed=3, cuts=cuts, batch_size=batch_size
            )
        assert [len(curve) for curve in nothing] == [0, 0, 0]
        for place, probability in enumerate(probabilities):
            rows = run(redness, hospital, [4, 1, 3], prompt=Points(), probability=probability)
            assert [curve[place] for curve in found] == pytest.approx(rows["dice"].tolist(), abs=1e-3)


def test_every_module_returns_to_its_mode(hospital: CachedSet, redness: Redness) -> None:
    redness.train()
    redness.frozen.eval()
    run(redness, hospital, [0])
    assert [part.training for part in (redness, redness.noise, redness.frozen)] == [True, True, False]
    assert redness.scale.requires_grad
    assert redness.scale.grad is None


def test_every_module_returns_to_its_mode_after_an_error(hospital: CachedSet, redness: Redness) -> None:
    redness.train()
    with pytest.raises(IndexError):
        run(redness, hospital, [len(hospital)])
    assert redness.noise.training
    assert torch.is_grad_enabled()


def test_a_logit_that_is_no_number_spoils_the_rows_of_its_own_trial(hospital: CachedSet, redness: Redness) -> None:
    def both(images: torch.Tensor, points: object) -> list[torch.Tensor]:
        return [redness(images).logits, redness(images).logits * nan]

    with single_predictor(redness):
        rows, wrong = evaluate_each(
            both, hospital, [0, 1], NoPrompt(), Runtime(), role="val", seed=3, probabilities=(0.5, 0.5)
        )
    assert isinstance(wrong, NotNumbers)
    pd.testing.assert_frame_equal(rows, run(redness, hospital, [0, 1]))


def test_global_random_state_is_untouched(hospital: CachedSet, redness: Redness) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(redness, hospital, prompt=Points(negative=1))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_logits_may_be_half_precision(hospital: CachedSet, redness: Redness) -> None:
    exact = run(redness, hospital)["dice"]

    class Half(Redness):
        def forward(self, images: Tensor, points: tuple[Tensor, Tensor] | None = None) -> Tensor:
            return Prediction(super().forward(images, points).logits.bfloat16())

    assert run(Half(), hospital)["dice"].tolist() == pytest.approx(exact.tolist(), abs=0.02)


def test_one_image_is_held_at_native_size_at_a_time() -> None:
    opened, segmenter = Fake(side=1000), Redness()

    def peak(indices: list[int]) -> int:
        tracemalloc.start()
        try:
            run(segmenter, opened, indices, batch_size=4, metrics="dice")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    one = peak([0])
    assert one > 4_000_000  # the logits of one image, in bytes
    assert peak([0, 1, 2, 3]) < 1.3 * one


def test_predictions_are_logits_in_the_frame(hospital: CachedSet, redness: Redness) -> None:
    logits = predict(redness, hospital, [3, 1], NoPrompt(), Runtime(), seed=0)
    assert logits.shape == (2, SIZE, SIZE)
    assert logits.dtype == np.float32
    pointed = predict(redness, hospital, [1], Points(), Runtime(), seed=0)
    np.testing.assert_allclose(pointed - logits[1:], _lift(hospital, 1), atol=1e-5)


def _lift(hospital: CachedSet, index: int) -> float:
    """By how much ``Redness`` raises the logits of an image for its five points."""
    rng = np.random.default_rng([0, *hospital.ids[index].encode()])
    coords, _ = Points().sample(hospital.masks[index].astype(bool), rng)
    return float(coords[..., 0].mean()) / 8


def test_no_image_gives_no_row(hospital: CachedSet, redness: Redness) -> None:
    rows = run(redness, hospital, [])
    assert rows.empty
    assert list(rows) == ["dataset", "role", "image", "patient", *METRICS, "pixels", "threshold"]
    assert summary(rows) == {}
    assert n_undefined(rows) == {}


def test_a_real_segmenter_is_scored(hospital: CachedSet) -> None:
    segmenter = build(Nano(weights="random"), SIZE, Runtime())
    assert isinstance(segmenter, Segmenter)
    rows = run(segmenter, hospital)
    assert rows[list(METRICS)].notna().all(axis=None)
    assert rows["auc"].between(0, 1).all()
    one_by_one = run(segmenter, hospital, batch_size=1)
    pd.testing.assert_frame_equal(one_by_one, rows, rtol=0, atol=0.01)  # the backbone's sums round differently
    pointed = run(segmenter, hospital, prompt=Points())
    assert pointed["auc"].tolist() != rows["auc"].tolist()


def frame(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"role": "source", "pixels": 9} | columns)


def test_summary_is_the_mean_over_the_images_of_each_set() -> None:
    rows = frame(dataset=["drive", "stare", "drive"], dice=[0.5, 0.9, 0.7], auc=[0.9, 1.0, 0.8])
    means = {"drive/dice": 0.6, "drive/auc": 0.85, "stare/dice": 0.9, "stare/auc": 1.0}
    assert summary(rows) == pytest.approx(means)
    assert all(type(value) is float for value in summary(rows).values())
    assert n_undefined(rows) == dict.fromkeys(means, 0)


def test_summary_leaves_undefined_values_out_and_counts_them() -> None:
    rows = frame(dataset=["idrid"] * 3, dice=[0.5, 0.0, 1.0], auc=[0.9, nan, 0.7], sensitivity=[nan] * 3)
    assert summary(rows) == pytest.approx({"idrid/dice": 0.5, "idrid/auc": 0.8})
    assert n_undefined(rows) == {"idrid/dice": 0, "idrid/auc": 1, "idrid/sensitivity": 3}


def test_rows_survive_parquet(tmp_path: Path, hospital: CachedSet, redness: Redness) -> None:
    rows = run(redness, hospital)
    rows.to_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows.parquet"), rows)


def test_the_set_is_only_read(hospital: CachedSet, redness: Redness) -> None:
    def bits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return np.array(hospital.images), np.array(hospital.masks)

    before = bits()
    run(redness, hospital, prompt=Points(negative=2))
    assert all(np.array_equal(*pair) for pair in zip(before, bits(), strict=True))
