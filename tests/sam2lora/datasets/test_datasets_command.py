"""``python -m sam2lora.datasets``."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets import DATASETS, Stare
from sam2lora.datasets.__main__ import main

NAMES = [dataset.name for dataset in DATASETS]


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line.split()


def test_a_complete_root(tree, capsys):
    assert main([str(tree(*NAMES))]) == 0
    text = capsys.readouterr().out
    assert row(text, "chase_db1") == ["chase_db1", "vessel", "72x60", "3/28", "2", "2", "1", "0/0/0"]
    assert row(text, "fives") == ["fives", "vessel", "72x60", "2/800", "2", "1", "1", "0/0/0"]
    assert "pairs: found/complete set" in text
    assert "faults: files missing or left over/of another size/unreadable" in text
    assert "Problems" not in text
    for dataset in DATASETS:
        assert f"{dataset.title}: {dataset.licence}" in text
    assert "drishti_gs1_1024: looked for" in text


def test_problems_and_absent_sets(tree, capsys):
    root = tree("stare")
    first, second = Stare().find(root).entries
    first.image.write_bytes(b"no image")
    second.masks[0].unlink()
    shutil.copy(first.masks[0], root / "STARE" / "labels-ah" / "im9999.ah.ppm")
    assert main([str(root)]) == 1
    text = capsys.readouterr().out
    assert row(text, "stare")[-1] == "2/0/1"
    assert f"stare: {first.image}: an image file must be readable" in text
    assert f"stare: {second.image}: every image needs its mask" in text
    assert "im9999.ah.ppm: every mask needs its image" in text
    for name in NAMES:
        assert (f"{name}: looked for {root}" in text) == (name != "stare")


def test_a_mask_of_another_size_is_counted_apart(tree, drawing, capsys):
    root = tree("stare")
    drawing.save(drawing.grey(drawing.truth()[1:]), Stare().find(root).entries[0].masks[0])
    assert main([str(root)]) == 1
    text = capsys.readouterr().out
    assert row(text, "stare")[-1] == "0/1/0"
    assert "must have the size of its image" in text


def test_a_folder_of_ones_own_is_pointed_out_and_looked_at(tree, drawing, capsys):
    root = tree("les_av")
    for identity in "abc":
        drawing.save(drawing.photograph(), root / "clinic" / "images" / f"{identity}.png")
        drawing.save(drawing.grey(drawing.truth()), root / "clinic" / "masks" / f"{identity}.png")
        for place in ("train/images", "train/masks", "test/images", "test/masks"):
            (root / "parted" / place).mkdir(parents=True, exist_ok=True)
    assert main([str(root)]) == 0
    text = capsys.readouterr().out
    assert "clinic: look at it with --set folder:path=clinic\n" in text
    assert "parted: look at it with --set folder:path=parted:parts=folders\n" in text
    assert "LES-AV: look at it" not in text
    assert main([str(root), "--set", "folder:path=clinic:target=disc"]) == 0
    text = capsys.readouterr().out
    assert row(text, "folder_clinic") == ["folder_clinic", "disc", "72x60", "3/?", "3", "2", "1", "0/0/0"]
    assert "les_av" not in text
    assert "ask their owner" in text
    (root / "clinic" / "images" / "b.png").write_bytes(b"")
    assert main([str(root), "--set", "folder:path=clinic"]) == 1
    assert main([str(root), "--set", "folder:path=clinic:unreadable=skip"]) == 0
    text = capsys.readouterr().out.partition("Left out as requested")[2]
    assert "b.png: an image file must be readable, but it is empty" in text


def test_a_set_that_was_asked_for_and_is_absent_or_unknown(tree, capsys):
    root = tree("stare")
    assert main([str(root), "--set", "stare", "--set", "drive"]) == 1
    assert "drive: looked for" in capsys.readouterr().out
    assert main([str(root), "--set", "stair"]) == 1
    assert "did you mean 'stare'" in capsys.readouterr().out


def test_names_alone(tree, capsys):
    root = tree("stare")
    Stare().find(root).entries[0].image.write_bytes(b"no image")
    assert main([str(root), "--quick"]) == 0
    assert row(capsys.readouterr().out, "stare")[2:4] == ["not", "read"]


def test_images_without_a_split_and_twofold_folders(tree, capsys):
    root = tree("stare", "chase_db1")
    for folder, ending in (("stare-images", ".ppm"), ("labels-ah", ".ah.ppm")):
        place = root / "STARE" / folder
        (place / f"im0001{ending}").rename(place / f"im7777{ending}")
    shutil.copytree(root / "CHASEDB1", root / "CHASE_DB1")
    assert main([str(root)]) == 1
    text = capsys.readouterr().out
    assert "im7777 is not: remove the file, or add it to the CSV" in text
    assert "CHASE_DB1 must lie in one folder" in text


def test_the_two_copies_of_one_set_share_patients(tree, capsys):
    root = tree("drishti_gs1")
    shutil.copytree(root / "DRISHTI-GS1", root / "DRISHTI-GS1_1024")
    assert main([str(root)]) == 0
    text = capsys.readouterr().out
    assert "Shared patients: use one of each pair" in text
    assert "drishti_gs1 and drishti_gs1_1024" in text


def test_an_empty_root_and_none(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "the data root must hold a data set, but none was found" in capsys.readouterr().out
    assert main([str(tmp_path / "none")]) == 1
    assert "the data root must be a folder, but it is none" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_a_contact_sheet(tmp_path):
    assert main(["--synthetic", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 256, 12 * 256)
        assert np.asarray(sheet).std() > 20


def test_help_is_true():
    command = [sys.executable, "-m", "sam2lora.datasets", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for word in ("ROOT", "--quick", "--set NAME", "--synthetic OUT.png", "Exit status 1"):
        assert word in done.stdout
