"""``python -m sam2lora.predict`` from photographs to masks."""

from __future__ import annotations

import gzip
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import expit

from sam2lora import tuned
from sam2lora.commands import predict
from sam2lora.config import TrialConfig
from sam2lora.datasets import to_native
from sam2lora.metrics import measure
from sam2lora.runtime import Runtime
from sam2lora.tiles import view


@pytest.fixture
def photographs(home: Path, tiny: TrialConfig) -> Path:
    """The target's four images as files."""
    (target,) = tiny.protocol.targets
    (home / "photographs").mkdir()
    for entry in target.find(None).entries:
        Image.fromarray(target.read(entry).image).save(home / "photographs" / f"{entry.id}.png")
    return home / "photographs"


@pytest.fixture
def options(photographs: Path, trained: Path) -> list[str]:
    return [str(photographs), "--adapter", str(trained), "--out", "out", "--threads", "1"]


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: picture(path) for path in sorted((folder / "masks").iterdir())}


def test_a_folder_becomes_masks_overlays_probabilities_and_a_table(
    options: list[str], photographs: Path, trained: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([*options, "--probabilities", "16", "--batch-size", "3"]) == 0
    assert "4 images: 4 written, 0 there already, 0 failed" in capsys.readouterr().err
    found, table = masks(home / "out"), pd.read_csv(home / "out" / "images.csv").set_index("image")
    assert sorted(found) == sorted(path.stem for path in photographs.iterdir()) == sorted(table.index)
    segmenter = tuned.attached(tuned.find(str(trained)), Runtime())
    for name, mask in found.items():
        image = picture(photographs / f"{name}.png")
        seen = view(image, 64)
        with torch.no_grad():
            inputs = torch.from_numpy(seen.frames).permute(0, 3, 1, 2) / 255
            frame = torch.nn.functional.interpolate(segmenter(inputs), (64, 64), mode="bilinear")[0, 0].numpy()
        logits = to_native(frame, seen.native)
        sure = np.abs(logits) > 1e-4
        assert np.array_equal((mask == 255)[sure], ((logits > 0) & seen.native.fov)[sure])
        assert set(np.unique(mask)) <= {0, 255}
        probability = picture(home / "out" / "probabilities" / f"{name}.png") / 65535
        assert np.abs(probability - np.where(seen.native.fov, expit(logits), 0)).max() < 1e-4
        row = table.loc[name]
        assert (row["area_pixels"], row["field_pixels"]) == ((mask == 255).sum(), seen.native.fov.sum())
        assert 0.5 <= row["confidence"] <= 1
        assert row["pixels_per_field"] == 64
        overlay = picture(home / "out" / "overlays" / f"{name}.png")
        assert np.array_equal(overlay[mask == 0], image[mask == 0])
        assert (overlay[mask == 255] != image[mask == 255]).any(axis=1).all()


def test_masks_score_what_the_training_said(
    options: list[str], trained: Path, tiny: TrialConfig, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the set's own field of view, which its photographs alone do not tell to the pixel."""
    (target,) = tiny.protocol.targets
    pairs = {entry.id: target.read(entry) for entry in target.find(None).entries}
    own = {pair.image.tobytes(): pair.fov for pair in pairs.values()}
    monkeypatch.setattr(predict, "view", lambda image, size, finer: view(image, size, finer, own[image.tobytes()]))
    assert predict.main(options) == 0
    rows = pd.read_parquet(trained / "images.parquet").set_index(["dataset", "image"])
    for name, mask in masks(home / "out").items():
        dice = measure(np.where(mask == 255, 1.0, -1.0), pairs[name].mask, pairs[name].fov, ("dice",))["dice"]
        assert dice == pytest.approx(rows.loc[("cedar", name), "dice"], abs=2e-3)


def test_what_is_there_is_left_and_overwritten_only_when_asked(
    options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = sorted(photographs.iterdir())[0]
    assert predict.main([str(first), *options[1:]]) == 0
    mask = home / "out" / "masks" / f"{first.stem}.png"
    made = mask.stat().st_mtime_ns
    assert predict.main(options) == 0
    assert "4 images: 3 written, 1 there already, 0 failed" in capsys.readouterr().err
    assert mask.stat().st_mtime_ns == made
    assert predict.main([*options, "--overwrite"]) == 0
    assert mask.stat().st_mtime_ns > made
    assert len(pd.read_csv(home / "out" / "images.csv")) == 4
    assert predict.main([*options, "--threshold", "0.3"]) == 2
    assert "differ in threshold" in capsys.readouterr().err
    assert predict.main([*options, "--threshold", "0.3", "--overwrite"]) == 0
    assert json.loads((home / "out" / "prediction.json").read_text())["threshold"] == 0.3


def test_a_mask_whose_row_was_not_written_is_made_again(options: list[str], photographs: Path, home: Path) -> None:
    assert predict.main(options) == 0
    table = home / "out" / "images.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert predict.main(options) == 0
    assert len(pd.read_csv(table)) == 4


def test_gzipped_photographs_are_read_as_stare_ships_them(options: list[str], photographs: Path, home: Path) -> None:
    first = sorted(photographs.iterdir())[0]
    (home / "stare").mkdir()
    Image.open(first).save(home / "plain.ppm")
    (home / "stare" / "im0001.ppm.gz").write_bytes(gzip.compress((home / "plain.ppm").read_bytes()))
    assert predict.main(["stare", *options[1:]]) == 0
    assert list(masks(home / "out")) == ["im0001"]


def test_an_unreadable_file_is_named_and_the_others_are_done(
    options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "broken.png").write_bytes(b"no image")
    Image.new("L", (64, 64), 90).save(photographs / "grey.png")
    assert predict.main(options) == 1
    said = capsys.readouterr().err
    assert "broken.png" in said
    assert "grey.png: an image must be 8-bit RGB" in said
    assert "6 images: 4 written, 0 there already, 2 failed" in said
    assert len(masks(home / "out")) == 4


def test_tiles_resolve_more_and_the_table_says_how_much(options: list[str], home: Path) -> None:
    assert predict.main([*options, "--tiles", "1.4", "--no-overlays"]) == 0
    table = pd.read_csv(home / "out" / "images.csv")
    assert set(table["pixels_per_field"]) <= set(range(65, 91))
    assert not (home / "out" / "overlays").exists()
    assert all(mask.shape == (96, 96) for mask in masks(home / "out").values())


def test_names_that_clash_are_refused(options: list[str], photographs: Path, home: Path) -> None:
    first = sorted(photographs.iterdir())[0]
    (home / "other").mkdir()
    other = home / "other" / first.name
    other.write_bytes(first.read_bytes())
    assert predict.main([str(other), *options]) == 2, "two masks of one name"
    assert not (home / "out").exists()
    assert predict.main([str(first), *options[1:]]) == 0
    assert predict.main([str(other), *options[1:]]) == 2, "a mask of this name, of another file"


def test_a_folder_of_something_else_is_refused(options: list[str], home: Path) -> None:
    (home / "out" / "masks").mkdir(parents=True)
    assert predict.main(options) == 2
    assert [path.name for path in (home / "out").iterdir()] == ["masks"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: "absent"}, "Images must be files or folders that exist"),
        ({0: "empty"}, "must hold images (.bmp, .gif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, each also gzipped"),
        ({0: "absent", 2: "absent.safetensors"}, "but absent does not: check the path. An adapter must be a file"),
        ({2: "absent.safetensors"}, "check the path"),
        ({2: "empty"}, "holds none"),
        ({2: "photographs/nothing"}, "There is no record at sqlite:///runs/optuna.db"),
    ],
)
def test_what_cannot_be_found_is_refused(
    options: list[str], home: Path, change: dict[int, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "empty").mkdir()
    for place, value in change.items():
        options[place] = value
    assert predict.main(options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (home / "out").exists()


@pytest.mark.parametrize("wrong", [["--tiles", "0.5"], ["--tiles", "nan"], ["--threshold", "1"], ["--batch-size", "0"]])
def test_an_option_out_of_range_is_refused(options: list[str], wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict.main([*options, *wrong])


def test_stems_leave_suffix_and_gz_out() -> None:
    assert [predict.stem(Path(name)) for name in ("im0001.ppm.gz", "a.b.png", "c.tif")] == ["im0001", "a.b", "c"]


def test_the_module_is_the_command_and_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", "--help"])
    monkeypatch.delitem(sys.modules, "sam2lora.predict")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("sam2lora.predict", run_name="__main__")
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--adapter", "--tiles", "--probabilities", "--overwrite", "--threshold"))
