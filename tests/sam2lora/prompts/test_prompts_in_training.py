"""Prompts of a trial: which batches get them, from which seeds, and which prompt is judged with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sam2lora.adapters import LoRA
from sam2lora.augments import Flips, NoAugment
from sam2lora.backbones import Nano
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.prompts import Box, NoPrompt, Points
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.batches import batches
from sam2lora.training.loop import epoch
from sam2lora.training.scoring import final_scores
from sam2lora.training.session import Session, start

CONFIG = TrialConfig(
    protocol=Transfer(
        sources=(Synthetic(hospital="alder", images=14, size=64),),
        targets=(Synthetic(hospital="cedar", images=4, size=64),),
    ),
    backbone=Nano(weights="random"),
    adapters=(LoRA(rank=2, alpha=4.0),),
    augment=Flips(),
    train_prompt=Points(positive=3, negative=1),
    image_size=64,
    epochs=2,
)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(cache=tmp_path_factory.mktemp("cache"))


def prompts_by_image(session: Session, number: int) -> dict[bytes, list[list[float]]]:
    """The points of every training image, by the pixels of its augmented mask and image."""
    seen = {}
    for images, masks, points in batches(session, number):
        assert points is not None
        for i in range(len(images)):
            content = images[i].numpy().tobytes() + masks[i].numpy().tobytes()
            seen[content] = torch.cat([points[0][i], points[1][i][:, None]], dim=1).tolist()
    return seen


def test_every_point_lies_on_the_mask_of_its_own_image(runtime: Runtime) -> None:
    session = start(CONFIG, Replicate(), runtime)
    for _, masks, points in batches(session, 1):
        assert points is not None
        coords, labels = points
        for mask, places, names in zip(masks, coords.long(), labels, strict=True):
            assert names.tolist() == [1, 1, 1, 0]
            assert mask[0, places[:, 1], places[:, 0]].tolist() == names.tolist()


def test_an_image_gets_the_same_prompt_whatever_its_batch(runtime: Runtime) -> None:
    first, second, third = (
        prompts_by_image(start(replace(CONFIG, batch_size=size), Replicate(), runtime), 1) for size in (1, 2, 5)
    )
    assert len(first) > 5
    assert first == second == third


def test_prompts_change_with_the_epoch_and_the_replicate(runtime: Runtime) -> None:
    still = replace(CONFIG, augment=NoAugment())  # so that an image is the same in every epoch
    one, other = start(still, Replicate(), runtime), start(still, Replicate(seed=1), runtime)
    first, later, elsewhere = prompts_by_image(one, 1), prompts_by_image(one, 2), prompts_by_image(other, 1)
    assert first.keys() == later.keys() == elsewhere.keys()
    assert all(later[image] != points != elsewhere[image] for image, points in first.items())
    assert prompts_by_image(one, 1) == first


def test_dropout_takes_whole_batches_and_leaves_the_rest_alone(runtime: Runtime) -> None:
    given = {share: list(batches(start(replace(CONFIG, prompt_dropout=share), Replicate(seed=3), runtime), 1))
             for share in (0.0, 0.3, 0.7, 1.0)}  # fmt: skip
    without = {share: [points is None for *_, points in each] for share, each in given.items()}
    assert not any(without[0.0])
    assert all(without[1.0])
    assert 0 < sum(without[0.7]) < len(without[0.7])
    for less, more in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        assert all(b for a, b in zip(without[less], without[more], strict=True) if a)
    for (images, masks, points), (same, truth, left) in zip(given[0.0], given[0.7], strict=True):
        assert torch.equal(images, same)
        assert torch.equal(masks, truth)
        if left is not None:
            assert points is not None
            assert torch.equal(points[0], left[0])
            assert torch.equal(points[1], left[1])


def test_dropout_comes_as_often_as_it_is_asked_for(runtime: Runtime) -> None:
    session = start(replace(CONFIG, prompt_dropout=0.3, batch_size=1), Replicate(), runtime)
    dropped = [points is None for number in range(1, 21) for *_, points in batches(session, number)]
    assert abs(np.mean(dropped) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(dropped))


def test_a_trial_whose_prompts_are_all_dropped_is_the_promptless_one(runtime: Runtime) -> None:
    def trained(config: TrialConfig) -> tuple[float, float]:
        entry = epoch(start(config, Replicate(), runtime))
        return entry["loss/total"], entry["score"]

    promptless = trained(replace(CONFIG, train_prompt=NoPrompt()))
    assert trained(replace(CONFIG, prompt_dropout=1.0)) == promptless
    assert trained(CONFIG) != promptless


def test_the_test_prompt_judges_and_the_training_prompt_does_not(runtime: Runtime) -> None:
    def trained(config: TrialConfig) -> tuple[float, float, list[float]]:
        session = start(config, Replicate(), runtime)
        entry = epoch(session)
        return entry["loss/total"], entry["score"], final_scores(session)["auc"].tolist()

    loss, score, auc = trained(replace(CONFIG, train_prompt=NoPrompt()))
    prompted_loss, prompted_score, prompted_auc = trained(
        replace(CONFIG, train_prompt=NoPrompt(), test_prompt=Points(negative=1))
    )
    assert prompted_loss == loss
    assert prompted_score != score
    assert all(a != b for a, b in zip(prompted_auc, auc, strict=True))


def test_dropping_a_prompt_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"train_prompt is NoPrompt\(\).*set it to 0, or give a train_prompt"):
        replace(CONFIG, train_prompt=NoPrompt(), prompt_dropout=0.1)
    for share in (-0.1, 1.1):
        with pytest.raises(ValidationError, match="prompt_dropout"):
            replace(CONFIG, prompt_dropout=share)
    assert replace(CONFIG, train_prompt=Box(), prompt_dropout=0.5).prompt_dropout == 0.5
