"""``python -m sam2lora.train`` from its command line to its files."""

from __future__ import annotations

import io
import json
import math
import os
import runpy
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from PIL import Image
from rich.console import Console

from sam2lora import train, trained
from sam2lora.adapters import LoRA
from sam2lora.backbones import Nano, Sam2, UNet
from sam2lora.checkpoints import published_file
from sam2lora.choice import from_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.defaults import BASE
from sam2lora.intervals import mean_interval
from sam2lora.metrics import reading
from sam2lora.presets import PRESETS
from sam2lora.prompts import Box
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, Pooled, Protocol, Transfer
from sam2lora.settings import write_settings
from sam2lora.training import single_run
from sam2lora.training.gallery import Shown

ROOT = Path(__file__).parents[3]


@pytest.fixture
def options(home: Path, tiny: TrialConfig) -> list[str]:
    (home / "tiny.json").write_text(write_settings(tiny))
    return ["--config", "tiny.json", "--threads", "1"]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load_file(folder / "adapter.safetensors"))


def test_a_training_leaves_its_files_and_prints_its_scores(
    options: list[str], home: Path, tiny: TrialConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*options, "--out", "run", "--seed", "3", "--epochs", "1"]) == 0
    printed = capsys.readouterr()
    folder = home / "run"
    kept = {path.name for path in folder.iterdir()} - {".lock"}
    assert kept == {
        "adapter.safetensors", "config.json", "images.parquet", "predictions.png", "replicate.json", "result.json",
        "scores.csv",
    }  # fmt: skip
    config = replace(tiny, epochs=1)
    assert from_json(TrialConfig, (folder / "config.json").read_text()) == config
    assert (trained.read(folder / "adapter.safetensors").config, trained.find("run").replicate) == (
        config,
        Replicate(seed=3),
    )
    rows = pd.read_parquet(folder / "images.parquet")
    sealed = json.loads((folder / "result.json").read_text())
    assert sealed["roles"] == {"alder": "source", "cedar": "target"}
    dice = rows[rows.dataset == "cedar"]["dice"]
    assert sealed["scores"]["cedar/dice"] == pytest.approx(dice.mean())
    table = pd.read_csv(folder / "scores.csv").set_index(["dataset", "metric"])
    row = table.loc[("cedar", "dice")]
    assert (row["mean"], row["n"]) == (pytest.approx(dice.mean()), len(dice))
    assert row["low"] <= row["mean"] <= row["high"]
    assert f"{row['mean']:.3f}" in printed.out
    assert "epoch 1/1: validation Dice" in printed.err
    assert "†" not in printed.out + printed.err


@pytest.mark.parametrize("tested", [True, False], ids=["prompted in testing", "prompted in training alone"])
def test_scores_are_marked_where_the_test_prompt_comes_from_the_ground_truth(
    home: Path, tiny: TrialConfig, capsys: pytest.CaptureFixture[str], tested: bool
) -> None:
    prompted = replace(tiny, epochs=1, test_prompt=Box()) if tested else replace(tiny, epochs=1, train_prompt=Box())
    (home / "told.json").write_text(write_settings(prompted))
    assert train.main(["--config", "told.json", "--threads", "1", "--out", "told"]) == 0
    printed = capsys.readouterr()
    assert set(pd.read_csv(home / "told" / "scores.csv")["oracle_prompt"]) == {tested}
    assert printed.out.count("†") == 3 * tested  # both data sets and the note
    assert ("Prompted from ground truth" in printed.out) == tested
    assert printed.err.count("†") == tested  # the epoch's line
    with Image.open(home / "told" / "predictions.png") as sheet:
        rows = json.loads(sheet.info["rows"])
    shown = [Shown(**{field.name: row[field.name] for field in fields(Shown)}) for row in rows]
    assert {row.dataset for row in shown} == {"alder", "cedar"}
    assert {row.title.endswith(f"Dice {row.dice:.3f}, prompted from ground truth") for row in shown} == {tested}


def test_an_interrupted_training_goes_on_where_it_was(
    options: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*options, "--out", "whole"]) == 0
    epochs, own = [], single_run.epoch

    def interrupted(session: single_run.Session) -> dict[str, float]:
        epochs.append(session.epoch)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return own(session)

    monkeypatch.setattr(single_run, "epoch", interrupted)
    assert train.main([*options, "--out", "parts"]) == 130
    assert not (home / "parts" / "result.json").exists()
    assert train.main([*options, "--out", "parts"]) == 0
    assert epochs == [0, 1, 1], "the first epoch is not trained again"
    assert "continuing after epoch 1" in capsys.readouterr().err
    whole, parts = tensors(home / "whole"), tensors(home / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole.keys() | parts.keys())

    monkeypatch.setattr(single_run, "epoch", lambda session: pytest.fail("trained again"))
    assert train.main([*options, "--out", "parts"]) == 0
    assert "finished" in capsys.readouterr().err


def test_sigterm_stops_like_ctrl_c_and_says_how_to_go_on(options: list[str], home: Path) -> None:
    command = [sys.executable, "-m", "sam2lora.train", *options, "--epochs", "1000", "--out", "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE) as process:
        try:
            while process.poll() is None and not (home / "run" / "checkpoint.pt").exists():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.1)
            process.terminate()
            _, said = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert said.endswith("Interrupted. Run the same command again to continue after the last finished epoch.\n")
    assert "Traceback" not in said


def test_a_folder_of_another_training_is_refused_with_the_difference(
    trained: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", str(trained / "config.json"), "--out", str(trained)]
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert train.main([*given, "--rank", "3", "--seed", "1"]) == 2
    said = capsys.readouterr().err
    assert "adapters.0.rank: 2 in the folder, 3 now" in said
    assert "seed: 0 in the folder, 1 now" in said
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before


def test_a_folder_of_something_else_or_in_use_is_refused(
    options: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "run").mkdir()
    (home / "run" / "adapter.safetensors").write_bytes(b"precious")
    assert train.main([*options, "--out", "run"]) == 2
    assert "holds adapter.safetensors without settings" in capsys.readouterr().err
    with FileLock(home / "busy" / ".lock"):
        assert train.main([*options, "--out", "busy"]) == 2
    assert "in use by another" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused(
    options: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "file").touch()
    assert train.main([*options, "--out", "file/run"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: Results must be written into file/run, but they cannot be: ")
    assert said.endswith("name another with --out.")


def test_the_settings_are_the_defaults_then_the_options_then_the_assignments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def printed(*options: str) -> TrialConfig:
        assert train.main([*options, "--print-config"]) == 0
        return from_json(TrialConfig, capsys.readouterr().out)

    assert printed() == BASE
    changed = printed("--rank", "4", "--lr", "1e-2", "--image-size", "128", "--set", "adapters.0.alpha=1.5")
    assert changed == replace(
        BASE,
        adapters=(replace(BASE.adapters[0], rank=4, alpha=1.5),),
        optimizer=replace(BASE.optimizer, lr=1e-2),
        image_size=128,
    )
    moved = printed("--sources", "drive,stare", "--targets", "hrf").protocol
    assert ([s.name for s in moved.sources], [t.name for t in moved.targets]) == (["drive", "stare"], ["hrf"])
    assert printed("--sources", "drive").protocol.targets == (), "targets belong to the sources they were named with"
    assert printed("--targets", "").protocol == replace(BASE.protocol, targets=())


def test_a_protocol_keeps_what_is_not_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = FewShot(sources=(Synthetic(hospital="alder"),), targets=(Synthetic(hospital="birch"),), shots=3)
    tested = Transfer(sources=few.sources, targets=few.targets, target_images="test")

    def printed(protocol: Protocol, *options: str) -> Protocol:
        (home / "settings.json").write_text(write_settings(replace(BASE, protocol=protocol)))
        assert train.main(["--config", "settings.json", *options, "--print-config"]) == 0
        return from_json(TrialConfig, capsys.readouterr().out).protocol

    moved = (Synthetic(hospital="cedar"),)
    assert printed(few, "--targets", "cedar") == replace(few, targets=moved)
    assert printed(tested, "--targets", "cedar") == replace(tested, targets=moved)
    assert printed(few, "--shots", "1") == replace(few, shots=1)
    pool = (*few.sources, *few.targets)
    assert printed(few, "--protocol", "pooled") == Pooled(datasets=pool)
    left = ("--protocol", "leave_one_dataset_out", "--held-out", "birch")
    assert printed(few, *left) == LeaveOneDatasetOut(datasets=pool, held_out="birch")


def test_a_backbone_is_named_as_in_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    for name, model in (
        ("tiny", Sam2(size="tiny", checkpoint=published_file(Sam2(size="tiny")).sha256)),
        ("nano", Nano()),
        ("unet:resnet34", UNet(encoder="resnet34")),
    ):
        assert train.main(["--backbone", name, "--print-config"]) == 0
        assert from_json(TrialConfig, capsys.readouterr().out).backbone == model
    assert train.main(["--backbone", "nano", "--checkpoint", "random", "--print-config"]) == 0
    assert from_json(TrialConfig, capsys.readouterr().out).backbone == Nano(weights="random")


def test_published_weights_that_are_not_here_are_asked_for(
    options: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS", str(home / "checkpoints"))
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS_URL", "http://127.0.0.1:9")  # nobody listens
    assert train.main([*options, "--backbone", "tiny", "--out", "run"]) == 2
    assert "The weights of SAM 2.1 tiny must be downloaded" in " ".join(capsys.readouterr().err.split())


def test_a_preset_says_what_it_assumes(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--preset", "sam2lora_r64", "--print-config"]) == 0
    printed = capsys.readouterr()
    preset = PRESETS["sam2lora_r64"]
    assert from_json(TrialConfig, printed.out) == preset.config
    assert all(f"assumed {field}: " in printed.err for field in preset.assumed)
    assert "assumed backbone: Meta's SAM 2.1 large, downloaded on first use" in printed.err


def test_what_a_preset_assumes_is_told_once_weights_and_data_are_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS", str(home / "checkpoints"))
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS_URL", "http://127.0.0.1:9")  # nobody listens
    asked = ["--preset", "sam2lora_r64", "--datasets", "alder:images=14:size=96", "--epochs", "1", "--threads", "1"]
    assert train.main([*asked, "--out", "large"]) == 2
    assert "assumed" not in capsys.readouterr().err
    assert train.main([*asked, "--backbone", "nano", "--image-size", "64", "--rank", "2", "--out", "small"]) == 0
    assumed, _, trained = capsys.readouterr().err.partition("sources alder")
    assert "assumed precision: bfloat16" in assumed
    assert "epoch 1/1" in trained
    changed = ("protocol", "backbone", "image_size", "epochs", "adapters.0.rank")
    assert not any(f"assumed {field}" in assumed for field in changed), "of what was asked nothing is assumed"


def test_images_that_were_left_out_are_named(
    options: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("images", "masks"):
        (home / "clinic" / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(14):
        image = np.pad(rng.integers(60, 200, (56, 56, 3), np.uint8), ((4, 4), (4, 4), (0, 0)))
        Image.fromarray(image).save(home / "clinic/images" / f"{index}.png")
        Image.fromarray(np.pad(np.eye(56, dtype=np.uint8) * 255, 4)).save(home / "clinic/masks" / f"{index}.png")
    (home / "clinic/images/3.png").write_bytes(b"")
    (home / "clinic/images/notes.txt").write_text("x")
    asked = ["--data", ".", "--sources", "folder:path=clinic:unreadable=skip", "--epochs", "1", "--out", "run"]
    assert train.main([*options, *asked]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: 1 of 14 images of folder_clinic cannot be read and were left out:" in said
    assert "3.png: an image file must be readable, but it is empty" in said
    assert "warning: left out of the folders of folder_clinic: 1 .txt file" in said


def test_photographs_that_stand_twice_are_refused_or_said(
    options: list[str], home: Path, tiny: TrialConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hospital that trains as a folder that judges: as it is, refused, then mirrored."""
    (alder,) = tiny.protocol.sources
    for name, way in (("again", 1), ("mirrored", -1)):
        for entry in alder.find(None).entries[:4]:
            pair = alder.read(entry)
            for part, pixels in (("images", pair.image), ("masks", pair.mask), ("fov", pair.fov)):
                (home / name / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[:, ::way]).save(home / name / part / f"{entry.id}.png")
    asked = [*options, "--data", ".", "--epochs", "1", "--out", "run"]
    assert train.main([*asked, "--targets", "folder:path=again"]) == 2
    refused = capsys.readouterr().err
    assert "4 pairs of photographs of 'alder' and 'folder_again' are identical pixel for pixel" in refused
    assert "again/images/0000L.png" in refused
    assert train.main([*asked, "--targets", "folder:path=mirrored"]) == 0
    assert "warning: 4 pairs of photographs of 'alder' and 'folder_mirrored' look like" in capsys.readouterr().err


def test_help_comes_without_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['train', '--help']\n"
        "try: runpy.run_module('sam2lora.train', run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--preset" in shown.stdout


def test_the_settings_of_a_trained_adapter_can_be_taken(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--like", str(trained), "--print-config"]) == 0
    assert capsys.readouterr().out == (trained / "config.json").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sources", "driv"], "did you mean 'drive'"),
        (["--sources", "drive", "--targets", "drive"], "leave one of the two out"),
        (["--set", "adapters=[]", "--set", "adapters.0.rank=3"], "adapters has nothing, no '0'"),
        (["--config", "absent.json"], "readable JSON file"),
        (["--like", "absent.safetensors"], "check the path"),
        (["--set", "epochs"], "has no '='"),
        (["--datasets", "drive"], "Protocol transfer takes --sources, --targets"),
        (["--preset", "sam2lora_r64", "--sources", "drive"], "Protocol pooled takes --datasets"),
        (["--preset", "sam2lora"], "must be one of sam2lora_r64, sam2lora_r64_discs"),
        (["--protocol", "leave_one_dataset_out"], "--held-out is missing"),
        (["--checkpoint", "random"], "needs a --backbone"),
        (["--backbone", "medium"], "--backbone must be one of nano, tiny"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_every_set_that_is_absent_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--data", ".", "--sources", "drive", "--targets", "stare,hrf"]) == 2
    said = capsys.readouterr().err
    assert all(f"{title} must lie in a folder" in said for title in ("DRIVE", "STARE", "HRF"))


def test_rank_belongs_to_lora(home: Path, tiny: TrialConfig, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "frozen.json").write_text(write_settings(replace(tiny, adapters=())))
    assert train.main(["--config", "frozen.json", "--rank", "3"]) == 2
    assert "the adapters are frozen" in capsys.readouterr().err
    assert isinstance(tiny.adapters[0], LoRA)


def test_divergence_is_told_and_leaves_no_result(
    options: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["--set", "optimizer=sgd", "--set", "optimizer.lr=1e30", "--set", "clip_norm=null"]
    assert train.main([*options, *wild, "--out", "run"]) == 2
    assert "not finite" in capsys.readouterr().err
    assert not (home / "run" / "result.json").exists()


def test_no_room_is_told_with_a_remedy(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(session: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(single_run, "epoch", fail)
    assert train.main(options) == 2
    assert "lower batch_size or image_size" in capsys.readouterr().err


def test_scores_come_with_the_interval_over_patients() -> None:
    rows = pd.DataFrame(
        {
            "dataset": ["a"] * 4 + ["b"],
            "role": ["source"] * 4 + ["target"],
            "patient": ["1", "1", "2", "3", "1"],
            "dice": [0.1, 0.2, 0.6, float("nan"), float("nan")],
        }
    )
    table = single_run.scores(rows, oracle=False)
    expected = mean_interval(rows["dice"][:4], rows["patient"][:4], reading("dice").range)
    assert (table.iloc[0]["low"], table.iloc[0]["high"]) == (expected.low, expected.high)
    assert list(table["n"]) == [3, 0]
    assert list(table["undefined"]) == [1, 1]
    assert len(single_run.scores(rows[:0], oracle=False)) == 0


def test_a_set_with_nothing_to_find_is_told_and_what_it_leaves_undefined_is_counted() -> None:
    rows = pd.DataFrame({"dataset": "a", "role": "target", "patient": list("123"), "dice": 0.0})
    table = single_run.scores(rows.assign(auc=math.nan, sensitivity=math.nan), oracle=False)
    console = Console(record=True, width=200, file=io.StringIO())
    single_run.show(table, console)
    told = console.export_text()
    assert "undefined on all 3" in told
    assert "a: 3 of 3 images have nothing to find in the field of view" in told
    assert "nan" not in told


def test_two_long_names_stay_two_on_80_columns() -> None:
    names = [f"folder_{'of_a_clinic_' * 4}{side}" for side in ("left", "right")]
    row = {"role": "target", "metric": "dice", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 4, "clusters": 4}
    table = pd.DataFrame([{"dataset": name, **row, "undefined": 0, "oracle_prompt": False} for name in names])
    console = Console(width=80, file=io.StringIO(), record=True)
    single_run.show(table, console)
    first = [line.split()[0] for line in console.export_text().splitlines() if line[:2].strip()]
    assert all(name in "".join(first) for name in names)


def test_the_module_is_the_command_and_its_help_names_every_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--help"])
    monkeypatch.delitem(sys.modules, "sam2lora.train")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("sam2lora.train", run_name="__main__")
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--config", "--like", "--set", "--print-config", "--out", "--device"))
