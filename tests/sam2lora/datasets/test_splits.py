"""Splits: complete, by patient, balanced, and the same file each time they are written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

import sam2lora.datasets.splits as splits_package
from sam2lora.datasets import DATASETS, ChaseDB1, DrishtiGS1, Hospital, Stare, Synthetic
from sam2lora.datasets.pairs import Entry
from sam2lora.datasets.splits import FOLDS, committed, dealt, read_split
from sam2lora.datasets.splits.__main__ import main, rows
from sam2lora.errors import DataError

HERE = Path(splits_package.__file__).parent
NAMES = sorted(rows())
TOTAL = {  # images and test images of the owners' complete sets
    "chase_db1_first_20": (28, 8),
    "chase_db1_last_8": (28, 20),
    "dr_hagis": (39, 20),
    "drishti_gs1": (101, 51),
    "drions_db": (110, 50),
    "drive": (40, 20),
    "fives": (800, 200),
    "hrf": (45, 30),
    "idrid": (81, 27),
    "refuge1_by_camera": (1200, 800),
    "refuge1_official": (1200, 400),
    "rim_one_r3": (159, 60),
    "stare": (20, 10),
}


def test_writing_anew_gives_the_committed_files(tmp_path):
    main(["--out", str(tmp_path)])
    assert sorted(path.stem for path in HERE.glob("*.csv")) == NAMES
    for name in NAMES:
        assert (tmp_path / f"{name}.csv").read_bytes() == (HERE / f"{name}.csv").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_split_is_complete_and_balanced(name):
    table = read_split(HERE / f"{name}.csv")
    total, test = TOTAL[name]
    assert len(table) == total
    counts = Counter(split for _, split in table.values())
    assert counts.pop("test") == test
    homes = set(table.values())
    assert len(homes) == len({patient for patient, _ in homes})
    patients = Counter(split for _, split in homes if split != "test")
    assert max(patients.values()) - min(patients.values()) <= 1
    assert set(counts) == set(patients) == set(FOLDS[: sum(patients.values())])  # four children fill four folds


def test_classes_are_balanced_within_folds():
    for name, key, each in (("fives", lambda image: image[-1], 30), ("hrf", lambda image: image[3:], 1)):
        counts = Counter((key(image), split) for image, split in committed(name).items() if split != "test")
        assert set(counts.values()) == {each}


def test_conventions():
    stare = list(committed("stare").items())
    assert all(split in FOLDS for _, split in stare[:10])
    assert next(image for image, split in stare if split == "test") == "im0162"
    assert {image for image, split in ChaseDB1().assignment(()).items() if split == "test"} == {
        f"{child}{eye}" for child in (11, 12, 13, 14) for eye in "LR"
    }
    assert {image[:2] for image, split in ChaseDB1(split="last_8").assignment(()).items() if split != "test"} == {
        "11",
        "12",
        "13",
        "14",
    }
    assert DrishtiGS1().assignment(()) == DrishtiGS1(copy="1024").assignment(())
    hrf = committed("hrf")
    assert [image for image in hrf if hrf[image] != "test"] == [
        f"{n:02d}_{c}" for n in range(1, 6) for c in ("dr", "g", "h")
    ]
    assert committed("idrid")["IDRiD_54"] in FOLDS
    assert committed("idrid")["IDRiD_55"] == committed("drive")["20"] == committed("fives")["test/1_A"] == "test"
    assert committed("fives")["train/600_N"] in FOLDS
    official, by_camera = committed("refuge1_official"), committed("refuge1_by_camera")
    assert {image[0] for image in official if official[image] == "test"} == {"T"}
    assert {image[0] for image in by_camera if by_camera[image] != "test"} == {"g", "n"}
    drions = committed("drions_db")
    assert drions["060"] in FOLDS
    assert drions["061"] == "test"
    rim_one = committed("rim_one_r3")
    assert Counter((image[0] == "N", split == "test") for image, split in rim_one.items()) == {
        (True, False): 51,
        (True, True): 34,
        (False, False): 48,
        (False, True): 26,
    }
    assert len({image.rpartition("-")[0] for image in rim_one}) == 159


def test_an_answer_can_be_changed_without_changing_the_next():
    table = Stare().assignment(())
    table.clear()
    assert len(Stare().assignment(())) == 20


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_every_set_has_a_split(dataset):
    """Committed tables ignore the entries; a rule deals those that are there, whatever it is told of the test part."""
    entries = [Entry(f"test/{number}", str(number), Path(), ()) for number in range(11)]
    entries += [Entry(f"train/{number}", str(number), Path(), ()) for number in range(11, dataset.complete)]
    committed_table, table = dataset.assignment(()), dataset.assignment(entries)
    if committed_table:
        assert table == committed_table
    else:
        assert list(table) == [entry.id for entry in entries]
        assert dataset.assignment(entries[::-1]) == table
    assert len(table) == dataset.complete
    assert set(table.values()) >= set(FOLDS)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 22, 143])
def test_dealt_splits_are_balanced_and_keep_patients_together(count):
    eyes = {f"{patient}{eye}": f"p{patient}" for patient in range(count) for eye in "LR"}
    table = dealt("x", eyes)
    assert set(table) == set(eyes)
    homes = {(eyes[image], split) for image, split in table.items()}
    assert len(homes) == count
    folds = Counter(split for _, split in homes)
    assert folds.pop("test", 0) == (count + 2) // 4
    assert max(folds.values()) - min(folds.get(fold, 0) for fold in FOLDS) <= 1
    assert dealt("x", dict(reversed(eyes.items()))) == table


def test_a_named_test_part_leaves_the_folds_to_the_others():
    eyes = {f"{patient}{eye}": str(patient) for patient in range(30) for eye in "LR"}
    table = dealt("x", eyes, {"3", "29", "of another copy"})
    assert [image for image, split in table.items() if split == "test"] == ["3L", "3R", "29L", "29R"]
    assert {Counter(table.values())[fold] for fold in FOLDS} == {10, 12}
    assert set(dealt("x", eyes, ()).values()) == set(FOLDS)


def test_dealt_splits_depend_on_the_name_and_the_patients_alone():
    eyes = {str(number): str(number) for number in range(24)}
    assert dealt("x", eyes) != dealt("y", eyes)
    assert list(dealt("x", {image: eyes[image] for image in "123"}).values()) == ["0", "test", "1"]  # written down once
    assert dealt("x", {}) == {}


@pytest.mark.parametrize("images", [4, 8, 24, 100])
def test_the_split_of_a_hospital(images):
    dataset = Synthetic(hospital="fir", images=images)
    table = dataset.assignment(())
    assert list(table) == [entry.id for entry in dataset.find(Path()).entries]
    patients = {entry.id: entry.patient for entry in dataset.find(Path()).entries}
    homes = {(patients[image], split) for image, split in table.items()}
    assert len(homes) == images // 2
    folds = Counter(split for _, split in homes)
    assert folds.pop("test", 0) == images // 2 // 4
    assert max(folds.values()) - min(folds.get(fold, 0) for fold in FOLDS) <= 1


def test_more_images_keep_the_split_of_the_first():
    few, many = (Synthetic(hospital="elm", images=images).assignment(()) for images in (8, 80))
    assert all(many[image] == split for image, split in few.items())
    assert len({tuple(Synthetic(hospital=name).assignment(()).items()) for name in get_args(Hospital)}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,patient\na,a\n",
            "the columns must be image,patient,split, with commas .*, but they are image,patient: correct",
        ),
        ("", "the columns must be image,patient,split, with commas in every line, but there is none: correct"),
        ("image,patient,split\na,a,5\n", "line 2: a split must be one of 0, 1, 2, 3, 4, test, but it is '5'"),
        ("image,patient,split\na,a\n", "line 2: a split must be one of .* but it is None"),
        ("image,patient,split\n\na,a,1\n\nb,b,1,2\n", "line 5: a line must have 3 cells, but it has more: correct"),
        ("image,patient,split\na,p,1\nb,p ,test\n", "line 3: patients must differ in more than .* 'p' and 'p '"),
        ("image,patient,split\na,P,1\nb,p,1\n", "line 3: patients must differ in more than case .* 'P' and 'p'"),
        ('image,patient,split\na,"p,1\nb,q,1\n', "a listing must be a readable CSV, but unexpected end of data"),
        ("image,patient,split\na,a,1\na,a,1\n", "line 3: an image must be named once, but a is named again"),
        (
            "image,patient,split\na,p,1\nb,p,test\nc,q,x\n",
            "line 3: a patient must lie in one split, but p is in 1 and test; line 4: a split .*: correct these lines",
        ),
    ],
)
def test_a_broken_split_is_refused(text, message, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_split(path)
    assert str(path) in str(error.value)


def test_cells_may_hold_line_breaks_and_lines_end_as_on_any_system(tmp_path):
    path = tmp_path / "mine.csv"
    for end in ("\n", "\r\n", "\r"):
        lines = ["image,patient,split", '"a\nb", p,1', "c\u2028d, p,1", ""]
        path.write_bytes(end.join(lines).encode())
        assert read_split(path) == {"a\nb": (" p", "1"), "c\u2028d": (" p", "1")}


def test_a_missing_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="a data set needs a split, but there is no such file: write it"):
        read_split(tmp_path / "none.csv")
