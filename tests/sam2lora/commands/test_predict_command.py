"""``python -m sam2lora.predict`` from photographs to masks."""

from __future__ import annotations

import errno
import gzip
import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import expit

from sam2lora import predict
from sam2lora.config import TrialConfig
from sam2lora.datasets import to_native
from sam2lora.datasets.listing import summary
from sam2lora.metrics import measure
from sam2lora.photographs import find_photographs, stem
from sam2lora.runtime import Runtime
from sam2lora.tiles import view
from sam2lora.trained import attached, find


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
    assert "4 images: 4 written, 0 already there, 0 failed" in capsys.readouterr().err
    found, table = masks(home / "out"), pd.read_csv(home / "out" / "images.csv").set_index("image")
    assert sorted(found) == sorted(path.stem for path in photographs.iterdir()) == sorted(table.index)
    segmenter = attached(find(str(trained)), Runtime())
    for name, mask in found.items():
        image = picture(photographs / f"{name}.png")
        seen = view(image, 64)
        with torch.no_grad():
            inputs = torch.from_numpy(seen.frames).permute(0, 3, 1, 2) / 255
            frame = torch.nn.functional.interpolate(segmenter(inputs).logits, (64, 64), mode="bilinear")[0, 0].numpy()
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
    assert "4 images: 3 written, 1 already there, 0 failed" in capsys.readouterr().err
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


def test_results_beside_the_photographs_are_no_photographs(
    options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*options[:3], "--out", str(photographs), "--threads", "1", "--probabilities", "8"]
    for status in ("4 images: 4 written, 0 already there", "4 images: 0 written, 4 already there"):
        assert predict.main(command) == 0
        assert status in capsys.readouterr().err
    assert summary(find_photographs([photographs]).left_out) == "3 folders, 1 .csv file, 1 .json file"
    assert predict.main([str(photographs / "overlays"), *options[1:]]) == 2
    assert "contains results of predictions" in capsys.readouterr().err
    (home / "other" / "probabilities").mkdir(parents=True)
    assert predict.main([*options[:3], "--out", "other"]) == 2, "a folder of that name may hold photographs"


def test_a_photograph_that_was_exchanged_is_not_there_already(
    options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(options) == 0
    before = masks(home / "out")
    first, second = sorted(photographs.iterdir())[:2]
    times = first.stat()
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert predict.main(options) == 2
    assert f"{first} has changed since its prediction: replace the mask" in " ".join(capsys.readouterr().err.split())
    assert predict.main([*options, "--overwrite"]) == 0
    np.testing.assert_array_equal(masks(home / "out")[first.stem], before[second.stem])


def test_every_image_has_one_row_whatever_was_lost(options: list[str], photographs: Path, home: Path) -> None:
    assert predict.main(options) == 0
    table, whole = home / "out" / "images.csv", pd.read_csv(home / "out" / "images.csv")
    (home / "out" / "masks" / f"{whole['image'][0]}.png").unlink()
    table.write_text(table.read_text()[:-20])
    assert predict.main(options) == 0
    again = pd.read_csv(table).sort_values("image", ignore_index=True)
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), whole.drop(columns="seconds"))


@pytest.mark.parametrize(("name", "text"), [("prediction.json", "{"), ("images.csv", "image,file\n")])
def test_a_record_of_predictions_that_is_not_as_written_is_named(
    name: str, text: str, options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main(options) == 0
    (home / "out" / name).write_text(text)
    assert predict.main(options) == 2
    assert f"out/{name}" in capsys.readouterr().err


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
    assert "6 images: 4 written, 0 already there, 2 failed" in said
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
        ({0: "empty"}, "must contain images (.bmp, .dib, .gif, .jfif, .jp2, .jpe, .jpeg, .jpg, .pbm, .pgm, .png, .pnm"),
        ({0: "absent", 2: "absent.safetensors"}, "but absent does not: check the path. An adapter must be a file"),
        ({2: "absent.safetensors"}, "check the path"),
        ({2: "empty"}, "does not: let its training finish"),
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
    assert [stem(Path(name)) for name in ("im0001.ppm.gz", "a.b.png", "c.tif")] == ["im0001", "a.b", "c"]


def test_the_module_is_the_command_and_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", "--help"])
    monkeypatch.delitem(sys.modules, "sam2lora.predict")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("sam2lora.predict", run_name="__main__")
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--adapter", "--tiles", "--probabilities", "--overwrite", "--threshold"))


def eye(home: Path) -> Image.Image:
    """A photograph of the target, which is not symmetrical."""
    return Image.open(sorted((home / "photographs").iterdir())[0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("turn", [3, 6])
def test_a_photograph_that_a_tag_turns_is_segmented_upright(
    kind: str, turn: int, options: list[str], photographs: Path, home: Path
) -> None:
    upright = np.asarray(eye(home).resize((96, 80)))
    exif = Image.Exif()
    exif[274] = turn
    stored = Image.fromarray(np.rot90(upright, {3: 2, 6: 1}[turn]))
    for name, picture_of, tags in (("turned", stored, {"exif": exif}), ("upright", Image.fromarray(upright), {})):
        (home / name).mkdir()
        picture_of.save(home / name / "eye.png", kind, **tags, **({"quality": 100} if kind == "JPEG" else {}))
        assert predict.main([name, *options[1:3], "--out", f"out_{name}", "--threads", "1"]) == 0
    results = [masks(home / f"out_{name}")["eye"] for name in ("turned", "upright")]
    assert results[0].shape == (80, 96)
    assert (results[0] != results[1]).mean() < (0.02 if kind == "JPEG" else 1e-9)
    overlay = picture(home / "out_turned" / "overlays" / "eye.png").astype(int)
    assert np.abs(overlay - upright)[results[0] == 0].mean() < 3
    row = pd.read_csv(home / "out_turned" / "images.csv").iloc[0]
    assert (row["width"], row["height"]) == (96, 80)


def test_what_cameras_and_scanners_write_is_read_or_refused_by_name_and_the_others_are_done(
    options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = eye(home)
    place = home / "mixed"
    place.mkdir()
    expected = {
        "grey.png": "its mode is L (grey): take the colour photograph",
        "cmyk.jpg": "its mode is CMYK: convert it",
        "deep.png": "it has 16: convert it",
        "pages.tif": "it holds 2: save the one that is meant",
        "clear.png": "of its pixels are transparent: save it on black",
        "black.png": "must show a fundus in colour, but it is black: leave it out",
        "white.png": "must show a fundus in colour, but it is white",
        "flat.png": "it has one colour alone",
        "sky.png": "its colours are not those of a fundus",
        "page.png": "no lit disc stands out, and it is grey or parts of it are",
        "broken.jpg": "an image file must be readable",
    }
    one.convert("L").save(place / "grey.png")
    one.convert("CMYK").save(place / "cmyk.jpg")
    Image.fromarray(np.asarray(one.convert("L")).astype(np.uint16) * 257).save(place / "deep.png")
    one.save(place / "pages.tif", save_all=True, append_images=[one])
    one.convert("RGBA").save(place / "opaque.png")
    one.quantize(64).save(place / "palette.gif")
    clear = one.convert("RGBA")
    clear.putalpha(one.convert("L"))
    clear.save(place / "clear.png")
    for name, colour in (("black", (3, 2, 2)), ("white", (250, 250, 250)), ("flat", (150, 80, 40))):
        Image.new("RGB", one.size, colour).save(place / f"{name}.png")
    Image.fromarray(np.asarray(one)[..., ::-1].copy()).save(place / "sky.png")
    noise = np.random.default_rng(0).integers(0, 180, (96, 96, 1), np.uint8).repeat(3, 2)
    Image.fromarray(noise).save(place / "page.png")
    (place / "broken.jpg").write_bytes(b"no image")
    one.save(place / "UPPER.JPG", quality=95)
    for ending in ("jfif", "jpe"):
        one.save(place / f"{ending}.{ending}", "JPEG", quality=95)
    for ending in ("webp", "jp2"):
        one.save(place / f"{ending}.{ending}")
    assert predict.main(["mixed", *options[1:]]) == 1
    said = capsys.readouterr().err
    for name, text in expected.items():
        (line,) = [line for line in said.splitlines() if f"/{name}: " in line]
        assert text in line
    assert sorted(masks(home / "out")) == ["UPPER", "jfif", "jp2", "jpe", "opaque", "palette", "webp"]
    assert f"{7 + len(expected)} images: 7 written, 0 already there, {len(expected)} failed" in said
    assert predict.main(["mixed", *options[1:], "--unchecked"]) == 1
    said = capsys.readouterr().err
    assert "5 written, 7 already there" in said
    assert "without a dark border, so the whole image counts as field of view" in said
    assert "black" in masks(home / "out")


def test_subfolders_are_entered_and_their_results_kept_apart(
    options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(photographs.iterdir())[:2]
    for place, file in (("clinic", first), ("clinic/left", second), ("clinic/right/again", first)):
        (home / place).mkdir(parents=True, exist_ok=True)
        (home / place / "0001.png").write_bytes(file.read_bytes())
    for name in (".DS_Store", "._0001.png", "Thumbs.db", "notes.txt"):
        (home / "clinic" / "left" / name).write_bytes(b"\0\5\x16\7")
    (home / "clinic" / "loop").symlink_to(home / "clinic")
    command = ["clinic", *options[1:3], "--out", "clinic/out", "--threads", "1"]
    for status in ("3 written, 0 already there", "0 written, 3 already there"):
        assert predict.main(command) == 0
        said = capsys.readouterr().err
        assert status in said
        assert "ignored in the folders: " in said
        assert "2 hidden files, " in said
        assert "1 .db file, " in said
        assert "1 .txt file" in said
    out = home / "clinic" / "out"
    table = pd.read_csv(out / "images.csv", dtype=str).set_index("image")["file"]
    assert sorted(table.index) == ["0001", "left/0001", "right/again/0001"]
    for name, file in table.items():
        assert Path(file) == home / "clinic" / f"{name}.png"
        for kind in ("masks", "overlays"):
            assert picture(out / kind / f"{name}.png").shape[:2] == (96, 96)
    same = [picture(out / "masks" / f"{name}.png") for name in ("0001", "right/again/0001", "left/0001")]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


def test_a_subfolder_that_cannot_be_listed_is_named_and_the_others_are_done(
    options: list[str], photographs: Path, home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (photographs / "private").mkdir()
    true = os.listdir

    def closed(path: str = ".") -> list[str]:
        if Path(path).name == "private":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return true(path)

    monkeypatch.setattr(os, "listdir", closed)
    assert predict.main(options) == 1
    said = capsys.readouterr().err
    assert "private: a folder must be readable, but Permission denied: change its permissions" in said
    assert "4 written, 0 already there, 1 failed" in said
    assert predict.main([str(photographs / "private"), *options[1:]]) == 2


def test_a_link_keeps_its_name_and_one_to_nothing_is_named(
    options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(photographs.iterdir())[:2]
    first.rename(home / "MD5E-s1.png")
    first.symlink_to(home / "MD5E-s1.png")
    second.unlink()
    second.symlink_to("../.git/annex/objects/gone.png")
    assert predict.main(options) == 1
    assert f"{second.name}: a link must lead somewhere, but it is a link to ../.git/annex" in capsys.readouterr().err
    assert first.stem in masks(home / "out")
    assert predict.main([str(second), *options[1:-2], "--out", "other"]) == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a.png", "a.jpg"),
        ("a.png", "A.PNG"),
        ("x/a.png", "X/a.png"),
        ("a.png", "a.png.gz"),
        ("f\u00fc.png", "fu\u0308.jpg"),
    ],
)
def test_results_of_one_name_are_refused_before_anything_is_written(
    left: str, right: str, options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (left, right):
        (home / "mixed" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "mixed" / name).write_bytes(b"x")
    assert predict.main(["mixed", *options[1:]]) == 2
    assert "must have different names, since their masks have the same" in " ".join(capsys.readouterr().err.split())
    assert not (home / "out").exists()


def test_what_was_found_does_not_depend_on_the_order_of_a_file_system(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photographs / "b").mkdir()
    (photographs / "b" / "c.png").write_bytes(b"x")
    first = find_photographs([photographs])
    true = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(true(path), reverse=True))
    assert list(find_photographs([photographs]).files) == list(first.files)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 300), (300, 1), (17, 16)])
def test_a_picture_of_hardly_any_pixels_is_segmented_or_refused(
    size: tuple[int, int], options: list[str], photographs: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eye(home).resize(size).save(home / "tiny.png")
    status = predict.main(["tiny.png", *options[1:]])
    assert status in (0, 1)
    if status == 0:
        assert masks(home / "out")["tiny"].shape == size[::-1]
    else:
        assert "tiny.png: " in capsys.readouterr().err
