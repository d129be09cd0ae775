"""The benchmark of the makespan gives both sides the same settings, and ends where they do not train the same."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from ray import tune

from benchmarks import glue, makespan, packs
from harness.execution import ray_cluster
from harness.execution.slots import Slots
from sam2lora.adapters import LoRA
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.evaluate import evaluate_each, single_predictor
from sam2lora.models.build import build
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.packing import signature
from sam2lora.training.parts import training_images
from sam2lora.training.session import open_sets


def small() -> TrialConfig:
    config = makespan.base(64)
    source, target = (Synthetic(hospital=hospital, images=8, size=64) for hospital in ("alder", "birch"))
    return replace(config, protocol=Transfer(sources=(source,), targets=(target,)), image_size=64)


def test_the_workload_is_twenty_training_images_and_three_targets_of_ten(tmp_path: Path) -> None:
    config = makespan.base(64)
    (source,), targets = (open_sets(sets, 64, Runtime(cache=tmp_path)) for sets in makespan._sets(config))
    assert len(training_images((source,), 0)) == 20
    assert [len(target) for target in targets] == [10, 10, 10]
    assert (config.epochs, config.batch_size, config.image_size) == (3, 2, 256)


def test_the_glue_predicts_and_scores_what_the_harness_does(tmp_path: Path) -> None:
    config, runtime = small(), Runtime(cache=tmp_path / "cache")
    task = makespan._written(config, tmp_path / "cache", tmp_path)
    sam = torch.load(task.model, weights_only=False)
    segmenter = build(config.backbone, 64, runtime)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(glue.forward(sam, images), segmenter(images).logits, rtol=1e-4, atol=1e-4)
    (opened,) = open_sets(config.protocol.targets, 64, runtime)
    found = glue.evaluate(sam, task.tests["birch"], full=True)
    with single_predictor(segmenter) as predictor:
        (rows,) = evaluate_each(
            predictor, opened, range(8), config.test_prompt, runtime, role="target", seed=0, probabilities=(0.5,)
        )
    assert found == pytest.approx({name: rows[name].mean() for name in found}, abs=1e-3)
    assert np.load(task.train)["images"].shape[0] == len(training_images(open_sets((opened.dataset,), 64, runtime), 0))


@pytest.mark.parametrize("space", ["lora", "decoder"])
def test_every_drawn_layer_is_one_of_the_glues_model(space: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    modules = build(small().backbone, 64, Runtime()).sam.named_modules()
    linears = {name for name, module in modules if isinstance(module, torch.nn.Linear)}
    for _ in range(20):
        config = makespan.SPACES[space](study.ask(), small())
        settings = makespan._settings(config)
        assert set(settings.targets) <= linears
        assert isinstance(config.adapters[0], LoRA)
        assert (config.adapters[0].rank, config.adapters[0].init) == (settings.rank, "kaiming")
        assert config.adapters[0].dropout_site == "input"


def test_scores_beyond_noise_end_it() -> None:
    ours = makespan.Measured(1.0, 1.0, 1.0, [0.70, 0.72, 0.74])
    assert makespan.check(ours, replace(ours, dice=[0.71, 0.72, 0.74]))[0] == pytest.approx(-0.01 / 3)
    with pytest.raises(ValueError, match=r"must reach the same target Dice, but ours is \+0.100"):
        makespan.check(ours, replace(ours, dice=[0.60, 0.62, 0.64]))


def test_the_watch_counts_from_where_it_began() -> None:
    with makespan.watched() as watch:
        sum(number * number for number in range(300_000))
    assert 0 < watch.total() < 5


@pytest.mark.parametrize("kind", packs.KINDS)
def test_a_measured_pack_can_be_one(kind: packs.Kind, tmp_path: Path) -> None:
    drawn = packs.configs(kind, 3, 64)
    assert len({signature(config, Replicate(), 10) for config in drawn}) == 1
    lone, pair = (packs.measure(kind, trials, 64, tmp_path) for trials in (0, 2))
    assert (lone.steps, pair.steps) == (5, 10)
    assert packs.table([replace(lone, trials=1), pair]).row_count == 2


def test_the_glue_runs_on_the_gpu_that_its_room_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def search(settings: list[glue.Settings], task: glue.Task, *how: Any) -> list[dict[str, float]]:
        seen.extend([task, how])
        return [{"birch/dice": 0.5, "peak_mib": 1.0}]

    monkeypatch.setattr(glue, "search", search)
    monkeypatch.setattr(ray_cluster, "cluster", lambda room: nullcontext())
    config = makespan.decoder(optuna.create_study().ask(), replace(small(), precision="bfloat16"))
    makespan.plain([config], Slots(4, cpus=4.0, gpus=0.25), tmp_path / "cache", tmp_path)
    task, how = seen
    assert (task.device, task.threads, task.bfloat16) == ("cuda", 4, True)
    assert how == (4, tmp_path, 4.0, 0.25)


def test_a_trial_of_the_glue_asks_ray_for_its_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    ended = SimpleNamespace(config={"number": 0}, metrics={"score": 1.0}, error=None)
    monkeypatch.setattr(tune, "with_resources", lambda trial, resources: asked.append(resources))
    monkeypatch.setattr(tune, "Tuner", lambda trial, **_: SimpleNamespace(fit=lambda: [ended]))
    task = glue.Task(tmp_path, tmp_path, tmp_path, {}, 1, 2, device="cuda")
    settings = [glue.Settings((), 1, 1.0, 0.0, 1e-3)]
    assert glue.search(settings, task, 8, tmp_path, 2.0, 0.125) == [{"score": 1.0}]
    assert asked == [{"cpu": 2.0, "gpu": 0.125}]
