"""The pretraining: what it draws, that it learns, that it resumes, and what it writes."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sam2lora.backbones import Nano
from sam2lora.errors import CheckpointError
from sam2lora.model import SHIPPED, build, sha256
from sam2lora.pretrain import recipe as recipes
from sam2lora.pretrain.__main__ import make
from sam2lora.pretrain.recipe import Recipe, draw, score, train
from sam2lora.runtime import Runtime

SHORT = Recipe(steps=6, small_size=32, small_batch=2, size=48, batch=2, pointed=0.5)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, again, next_step, other = (
        draw(r, s) for r, s in ((SHORT, 1), (SHORT, 1), (SHORT, 2), (replace(SHORT, seed=1), 1))
    )
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, next_step.images)
    assert not torch.equal(first.images, other.images)


def test_small_scenes_come_first() -> None:
    assert [draw(SHORT, step).images.shape[-1] for step in range(6)] == [32, 32, 32, 32, 48, 48]


def test_points_lie_on_the_target() -> None:
    pointed = [batch for batch in (draw(SHORT, step) for step in range(30)) if batch.points is not None]
    assert 0 < len(pointed) < 30
    for batch in pointed:
        assert batch.points is not None
        for mask, coords, labels in zip(batch.target[:, 0], *batch.points, strict=True):
            on = mask[coords[:, 1].long(), coords[:, 0].long()]
            assert torch.equal(on[labels >= 0], labels[labels >= 0].float())


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_SAVE_EVERY", 2)
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    losses = list(train(SHORT, whole))

    begun = list(islice(train(SHORT, parts), 3))  # stops after step 3, saved after step 2
    resumed = list(train(SHORT, parts))

    assert begun == losses[:3]
    assert resumed == losses[2:]
    left, right = (torch.load(path, weights_only=True)["model"] for path in (whole, parts))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    list(train(replace(SHORT, steps=1), path))
    with pytest.raises(CheckpointError, match="resumes with the recipe that it began with"):
        next(train(SHORT, path))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    recipe = Recipe(steps=40, small_share=1.0, small_size=64, small_batch=2, size=64, pointed=0.0)
    losses = [loss for _, loss in train(recipe, tmp_path / "run.pt")]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_make_writes_weights_that_fit_and_says_how(tmp_path: Path) -> None:
    out = tmp_path / "nano.safetensors"
    make(replace(SHORT, steps=1), out)

    card, tensors = json.loads(out.with_suffix(".json").read_text()), load_file(out)
    assert card["sha256"] == sha256(out)
    assert card["recipe"]["steps"] == 1
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    build(Nano(weights="random"), 64, Runtime()).sam.load_state_dict(tensors)


def test_the_card_of_the_shipped_weights_is_theirs() -> None:
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert card["sha256"] == sha256(SHIPPED)
    assert Recipe(**card["recipe"]) == Recipe()


def test_the_shipped_weights_find_curves_without_a_prompt() -> None:
    shipped, random = (build(Nano(weights=weights), 256, Runtime()) for weights in ("shipped", "random"))
    assert score(shipped, seed=99, pointed=False, scenes=12) > 0.6
    assert score(random, seed=99, pointed=False, scenes=12) < 0.3
