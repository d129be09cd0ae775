"""The pretraining: what it draws, that it learns, that it resumes, and what it writes."""

import json
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from sam2lora.backbones import Nano
from sam2lora.backbones.nano import SHIPPED
from sam2lora.errors import CheckpointError
from sam2lora.models.build import build
from sam2lora.models.weights import sha256
from sam2lora.pretrain import recipe as recipes
from sam2lora.pretrain.__main__ import make
from sam2lora.pretrain.recipe import Recipe, Stage, Where, draw, picture, score, train
from sam2lora.prompts import Points as PointPrompt
from sam2lora.prompts import as_tensors
from sam2lora.runtime import Runtime

SHORT = Recipe(
    stages=(
        Stage(steps=3, size=32, images=2, prompts=2, plain=True),
        Stage(steps=3, size=48, images=2, prompts=3),
    )
)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, again, next_step, other = (
        draw(r, s) for r, s in ((SHORT, 4), (SHORT, 4), (SHORT, 5), (replace(SHORT, seed=1), 4))
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.points[0], again.points[0])
    assert not torch.equal(first.images, next_step.images)
    assert not torch.equal(first.images, other.images)


def test_stages_follow_each_other() -> None:
    batches = [draw(SHORT, step) for step in range(SHORT.steps)]
    assert [batch.images.shape[-1] for batch in batches] == [32, 32, 32, 48, 48, 48]
    assert [len(batch.target) for batch in batches] == [4, 4, 4, 6, 6, 6]
    assert [batch.curves is None for batch in batches] == [True, True, True, False, False, False]


def test_points_lie_on_what_is_asked_for_and_boxes_around_it() -> None:
    seen = set()
    for step in range(3, 6):
        batch = draw(SHORT, step)
        for mask, coords, labels in zip(batch.target[:, 0], *batch.points, strict=True):
            at = mask[coords[:, 1].long(), coords[:, 0].long()]
            assert torch.equal(at[(labels == 0) | (labels == 1)], labels[(labels == 0) | (labels == 1)].float())
            if 2 in labels:
                rows, columns = torch.nonzero(mask, as_tuple=True)
                assert coords[labels == 2].tolist() == [[columns.min(), rows.min()]]
                assert coords[labels == 3].tolist() == [[columns.max(), rows.max()]]
            seen |= set(labels.tolist())
    assert {0, 1, 2, 3} <= seen


def test_one_picture_is_asked_for_different_things() -> None:
    batch = draw(SHORT, 4)
    of_first = batch.target[:3]
    assert not torch.equal(of_first[0], of_first[1])


def test_the_sizes_share_their_parameters() -> None:
    owner = build(Nano(weights="random"), 64, Runtime())
    other = recipes._sharing(owner, 32)
    assert other.image_size == 32
    assert all(a is b for a, b in zip(owner.parameters(), other.parameters(), strict=True))


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
    list(train(replace(SHORT, stages=(Stage(steps=1, size=32, images=1, prompts=1),)), path))
    with pytest.raises(CheckpointError, match="resumes with the recipe that it began with"):
        next(train(SHORT, path))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    recipe = Recipe(stages=(Stage(steps=40, size=64, images=2, prompts=1),))
    losses = [loss for _, loss in train(recipe, tmp_path / "run.pt")]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_make_writes_weights_that_fit_and_says_how(tmp_path: Path) -> None:
    out = tmp_path / "nano.safetensors"
    make(Recipe(stages=(Stage(steps=1, size=48, images=1, prompts=1),)), out)

    card, tensors = json.loads(out.with_suffix(".json").read_text()), load_file(out)
    assert card["sha256"] == sha256(out)
    assert card["recipe"]["stages"][0]["steps"] == 1
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    build(Nano(weights="random"), 64, Runtime()).sam.load_state_dict(tensors)


def test_the_card_of_the_shipped_weights_is_theirs() -> None:
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert card["sha256"] == sha256(SHIPPED)
    assert card["recipe"] == json.loads(json.dumps(asdict(Recipe())))


@pytest.mark.parametrize("where", ["scenes", "hospitals"])
def test_the_shipped_weights_do_what_a_prompt_asks(where: Where) -> None:
    shipped, random = (build(Nano(weights=weights), 256, Runtime()) for weights in ("shipped", "random"))
    for ask in ("nothing", "1 point", "box"):
        assert score(shipped, 99, ask, where, pictures=12) > score(random, 99, ask, where, pictures=12) + 0.2


def test_another_point_on_the_same_picture_has_another_answer() -> None:
    """Two shapes of a plain picture: each point is answered by its own shape, better than by the other's."""
    segmenter = build(Nano(), 64, Runtime())
    own, others = [], []
    for index in range(12):
        shown = picture(64, "plain", np.random.default_rng([5, index]))
        for mask, other in islice(zip(shown.wanted, shown.wanted[1:], strict=False), 1):
            points = as_tensors([PointPrompt(positive=1).sample(mask, np.random.default_rng(0))], "cpu")
            image = torch.from_numpy(shown.image).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                found = (functional.interpolate(segmenter(image, points).logits, scale_factor=2)[0, 0] > 0).numpy()
            own.append((found & mask).sum() / max(1, mask.sum()))
            others.append((found & other).sum() / max(1, other.sum()))
    assert np.mean(own) > np.mean(others) + 0.3
