from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from harness.execution import engine
from harness.execution.engine import Engine
from harness.execution.messages import TrialOrder
from sam2lora import files
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import DiskError
from sam2lora.metrics import METRICS
from sam2lora.optimizers import SGD
from sam2lora.runtime import Runtime


def order(config: TrialConfig, runtime: Runtime, folder: Path) -> TrialOrder:
    return TrialOrder("key", to_json(config), to_json(Replicate(seed=1)), runtime, str(folder))


def work(order: TrialOrder) -> Iterator[dict[str, Any]]:
    """A trial in an engine of its own."""
    engine, told = Engine(), 0
    while True:
        yield (item := engine.advance_one(order, told))
        if item["outcome"] is not None:
            return
        told = item["epoch"]


def finished(items: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(items)


def test_a_trial_yields_its_curve_and_seals_its_test_scores_in_its_folder(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path
) -> None:
    items = finished(work(order(tiny, runtime, tmp_path)))
    assert [(item["epoch"], item["outcome"]) for item in items] == [(1, None), (2, None), (3, "completed")]
    assert all(item["score"] == item["entry"]["alder/dice"] for item in items)
    assert not any("cedar" in json.dumps(item) for item in items), "no target may reach a scheduler"
    sealed = json.loads((tmp_path / files.RESULT).read_text())
    rows = pd.read_parquet(tmp_path / files.IMAGES)
    assert sealed["roles"] == {"alder": "source", "cedar": "target"}
    assert sealed["n_images"] == rows.groupby("dataset").size().to_dict()
    assert sealed["scores"]["cedar/dice"] == pytest.approx(rows[rows.dataset == "cedar"]["dice"].mean())
    assert set(rows["key"]) == {"key"}
    assert sealed["threshold"] == 0.5
    missing = rows.groupby("dataset")[list(METRICS)].agg(lambda values: int(values.isna().sum())).stack()
    assert sealed["undefined"] == {f"{name}/{metric}": n for (name, metric), n in missing.items() if n}
    assert {f"cedar/{metric}" for metric in METRICS} <= sealed["scores"].keys() | sealed["undefined"].keys()
    with safetensors.safe_open(tmp_path / files.ADAPTER, "pt") as saved:  # type: ignore[no-untyped-call]
        assert json.loads(saved.metadata()["config"]) == json.loads(to_json(tiny))
    sheet = Image.open(tmp_path / files.PREDICTIONS)
    shown = json.loads(sheet.info["rows"])
    assert sheet.size[0] > 4 * 64
    assert sheet.size[1] >= shown[-1]["top"] + shown[-1]["height"]
    for name, own in rows.groupby("dataset"):
        places = {row["place"]: row["dice"] for row in shown if row["dataset"] == name}
        assert (places["worst"], places["best"]) == (own["dice"].min(), own["dice"].max())


def test_a_resumed_trial_equals_one_that_was_never_interrupted(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path
) -> None:
    whole = finished(work(order(tiny, runtime, tmp_path / "whole")))
    interrupted = work(order(tiny, runtime, tmp_path / "parts"))
    first = [next(interrupted), next(interrupted)]
    interrupted.close()  # type: ignore[attr-defined]
    rest = finished(work(order(tiny, runtime, tmp_path / "parts")))
    assert [item["epoch"] for item in rest] == [1, 2, 3], "the curve is replayed, so that a scheduler sees all of it"
    assert [without_time(item) for item in rest[:2]] == [without_time(item) for item in first]
    assert [without_time(item) for item in rest] == [without_time(item) for item in whole]
    before, after = (safetensors.torch.load_file(tmp_path / part / files.ADAPTER) for part in ("whole", "parts"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def without_time(item: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in item["entry"].items() if name != "seconds"}


def test_a_finished_trial_that_is_asked_for_again_is_not_trained_again(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = finished(work(order(tiny, runtime, tmp_path)))
    monkeypatch.setattr(engine, "epoch", lambda session: pytest.fail("trained again"))
    again = finished(work(order(tiny, runtime, tmp_path)))
    assert [item["score"] for item in again] == [item["score"] for item in first]


def test_the_frozen_segmenter_is_a_trial_like_any_other(tiny: TrialConfig, runtime: Runtime, tmp_path: Path) -> None:
    items = finished(work(order(replace(tiny, adapters=()), runtime, tmp_path)))
    assert items[-1]["outcome"] == "completed"
    assert len({item["score"] for item in items}) == 1, "what is frozen does not move"
    assert items[-1]["cost"]["trainable_parameters"] == 0


def test_divergence_is_an_ending(tiny: TrialConfig, runtime: Runtime, tmp_path: Path) -> None:
    wild = replace(tiny, optimizer=SGD(lr=1e30), clip_norm=None)
    *_, last = work(order(wild, runtime, tmp_path))
    assert last["outcome"] == "diverged"
    assert "not finite" in last["why"]
    assert not (tmp_path / files.RESULT).exists()


def test_no_room_is_an_ending_of_its_own(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: object) -> None:
        torch.empty(10**16)  # more than a processor can address

    monkeypatch.setattr(engine, "epoch", fail)
    items = finished(work(order(tiny, runtime, tmp_path)))
    assert [(item["epoch"], item["outcome"]) for item in items] == [(1, "out_of_memory")]


def test_a_bug_is_neither_divergence_nor_lack_of_memory(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(engine, "epoch", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        finished(work(order(tiny, runtime, tmp_path)))


def test_a_full_disk_ends_the_trial_with_its_checkpoint_intact(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = work(order(tiny, runtime, tmp_path))
    next(trial)
    kept = (tmp_path / files.CHECKPOINT).read_bytes()

    def full(state: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(DiskError, match=r"No space left.*what was finished is kept"):
        next(trial)
    assert (tmp_path / files.CHECKPOINT).read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == [files.CHECKPOINT]


def of_another_trial(config: TrialConfig, runtime: Runtime, path: Path) -> None:
    path.unlink()
    next(work(order(replace(config, batch_size=3), runtime, path.parent)))


def truncated(config: TrialConfig, runtime: Runtime, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def flipped(config: TrialConfig, runtime: Runtime, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_program(config: TrialConfig, runtime: Runtime, path: Path) -> None:
    torch.save({"epoch": 3}, path)


@pytest.mark.parametrize("damage", [of_another_trial, truncated, flipped, of_another_program])
def test_a_checkpoint_that_cannot_be_used_is_set_aside_and_the_trial_starts_again(
    damage: Callable[[TrialConfig, Runtime, Path], None], tiny: TrialConfig, runtime: Runtime, tmp_path: Path
) -> None:
    def curve(items: list[dict[str, Any]]) -> list[dict[str, float]]:
        return [{name: value for name, value in item["entry"].items() if name != "seconds"} for item in items]

    whole = finished(work(order(tiny, runtime, tmp_path / "whole")))
    folder = tmp_path / "damaged"
    next(work(order(tiny, runtime, folder)))
    damage(tiny, runtime, folder / files.CHECKPOINT)
    before = (folder / files.CHECKPOINT).read_bytes()
    first, *rest = finished(work(order(tiny, runtime, folder)))
    assert re.search(r"must be as this trial wrote it, but .*starts again", first["warning"])
    assert not any("warning" in item for item in rest)
    assert (folder / "checkpoint.pt.damaged").read_bytes() == before
    assert curve([first, *rest]) == curve(whole)


def test_equal_replicates_see_equal_batches_whatever_their_settings(tiny: TrialConfig, runtime: Runtime) -> None:
    from sam2lora.losses import BCE
    from sam2lora.training.batches import batches
    from sam2lora.training.session import start
    from sam2lora.weighted_loss import weighted

    one = start(tiny, Replicate(seed=4), runtime)
    first = [(images.clone(), masks.clone()) for images, masks, _ in batches(one, 2)]
    start_values = one.attachment.state()
    other = start(replace(tiny, loss=weighted({BCE(): 1.0}), optimizer=SGD(lr=1.0)), Replicate(seed=4), runtime)
    second = [(images, masks) for images, masks, _ in batches(other, 2)]
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))
    assert all(torch.equal(start_values[name], tensor) for name, tensor in other.attachment.state().items())
    elsewhere = [images for images, *_ in batches(start(tiny, Replicate(seed=5), runtime), 2)]
    assert not all(torch.equal(a, b) for (a, _), b in zip(first, elsewhere, strict=True))
