"""One photograph under two names: what a study refuses, what it says, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets import Drive, Folder, Rite, Source, Synthetic, cached
from sam2lora.errors import DataError, OverlapError
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, PerDataset, Pooled, Protocol, Transfer
from sam2lora.protocols.copies import Doubt, check_photographs

SIZE = 96
EYES = Synthetic(hospital="alder", images=24, size=SIZE)
CEDARS = Synthetic(hospital="cedar", images=4, size=64)


def photograph(index: int) -> Image.Image:
    return Image.fromarray(EYES.read(EYES.find(None).entries[index]).image)


def mask(index: int) -> Image.Image:
    return Image.fromarray(EYES.read(EYES.find(None).entries[index]).mask)


class Clinic:
    """A folder that is filled a photograph at a time."""

    def __init__(self, base: Path) -> None:
        self.base, self.lines = base, ["image,patient,split"]
        (base / "images").mkdir(parents=True)
        (base / "masks").mkdir()

    def add(self, index: int, part: str, name: str = "", patient: str = "", image: Image.Image | None = None) -> Clinic:
        """Photograph ``index``, as ``name`` of ``part``."""
        name = name or f"p{index}.png"
        (image or photograph(index)).save(self.base / "images" / name)
        mask(index).save(self.base / "masks" / f"{Path(name).stem}.png")
        self.lines.append(f"{Path(name).stem},{patient or Path(name).stem},{part}")
        return self

    @property
    def dataset(self) -> Folder:
        (self.base / "patients.csv").write_text("\n".join(self.lines))
        return Folder(path=str(self.base))


@pytest.fixture
def clinic(tmp_path: Path):
    """``clinic(name, first)`` makes a sound set of four photographs, with a test part and three folds."""

    def make(name: str, first: int) -> Clinic:
        made = Clinic(tmp_path / name)
        for index, part in zip(range(first, first + 4), ("test", "0", "1", "2"), strict=True):
            made.add(index, part)
        return made

    return make


@pytest.fixture
def check(tmp_path: Path):
    def run(protocol: Protocol, root: Path | None = None) -> tuple[Doubt, ...]:
        sets = {one.name: one for one in (*protocol.sources, *protocol.targets)}
        return check_photographs(protocol, [cached(one, root, 32, tmp_path / "cache") for one in sets.values()])

    return run


def protocols(one: Source, other: Source) -> tuple[Protocol, ...]:
    return (
        Transfer(sources=(one,), targets=(other,)),
        Pooled(datasets=(one, other)),
        LeaveOneDatasetOut(datasets=(one, other), held_out=other.name),
        FewShot(sources=(one,), targets=(other,), shots=1),
        FewShot(targets=(one, other), shots=1),
    )


def test_sets_without_a_copy_pass(clinic, check) -> None:
    for protocol in protocols(clinic("a", 0).dataset, clinic("b", 4).dataset):
        assert check(protocol) == ()


@pytest.mark.parametrize("name", ["other.png", "other.tif", "other.bmp"])
def test_a_photograph_of_two_sets_is_refused_by_every_protocol(name: str, clinic, check) -> None:
    one, other = clinic("a", 0).dataset, clinic("b", 4).add(2, "0", name).dataset
    for protocol in protocols(one, other):
        with pytest.raises(OverlapError) as error:
            check(protocol)
        text = str(error.value)
        assert text.startswith("A photograph must stand in a study once, or it is trained on and tested on, or counted")
        assert "1 pair of photographs of 'folder_a' and 'folder_b' is identical pixel for pixel: leave one of" in text
        assert f"{one.path}/images/p2.png and {other.path}/images/{name}" in text


def test_a_set_in_two_folders_is_refused_and_its_files_are_counted(clinic, check) -> None:
    one, other = clinic("a", 0), clinic("b", 4)
    for index in range(8, 15):
        one.add(index, "test")
        other.add(index, "test", f"q{index}.tif")
    with pytest.raises(
        OverlapError, match="7 pairs of photographs of 'folder_a' and 'folder_b' are identical"
    ) as error:
        check(Transfer(sources=(CEDARS,), targets=(one.dataset, other.dataset)))
    assert str(error.value).count("images/q") == 5
    assert "and 2 more" in str(error.value)


def test_train_and_test_part_of_one_set(clinic, check) -> None:
    made = clinic("a", 0).add(1, "test", "again.png")
    for protocol in (PerDataset(datasets=(made.dataset,), dataset="folder_a"), Transfer(sources=(made.dataset,))):
        with pytest.raises(OverlapError, match=r"of 'folder_a' is identical .*: remove one of each pair, or, in a"):
            check(protocol)


def test_two_folds_of_one_set_are_two_parts(clinic, check) -> None:
    with pytest.raises(OverlapError, match=r"again\.png and .*p1\.png"):
        check(Transfer(sources=(clinic("a", 0).add(1, "2", "again.png").dataset,)))


def test_twice_in_one_fold_is_said(clinic, check) -> None:
    (doubt,) = check(Transfer(sources=(clinic("a", 0).add(1, "0", "again.png").dataset,)))
    assert doubt.exact
    assert str(doubt).startswith("1 pair of photographs of 'folder_a' are identical pixel for pixel and weigh double")
    assert doubt.recorded == "identical: folder_a again and folder_a p1"


def test_twice_among_those_that_judge_counts_double_and_is_refused(clinic, check) -> None:
    made = clinic("a", 0).add(0, "test", "again.png").dataset
    for protocol in (Transfer(sources=(made,)), Transfer(sources=(CEDARS,), targets=(made,))):
        with pytest.raises(OverlapError, match="or counted twice"):
            check(protocol)


def test_photographs_of_one_patient_are_that_patients(clinic, check) -> None:
    """Two graders of one photograph, as two files: both lie on one side."""
    made = clinic("a", 0).add(3, "2", "second.png", patient="p3")
    assert check(Transfer(sources=(made.dataset,))) == ()


def test_images_that_a_protocol_does_not_use_are_left_alone(clinic, check) -> None:
    one, other = clinic("a", 0).dataset, clinic("b", 4).add(2, "0", "other.png").dataset
    assert check(Transfer(sources=(one,), targets=(other,), target_images="test")) == ()


def test_sets_that_share_patients_by_name_may_judge_together(clinic, check, tmp_path: Path) -> None:
    for index, (part, number) in enumerate((("training", "21"), ("training", "22"), ("test", "01"), ("test", "02"))):
        for base, truth, ending in (("DRIVE", "1st_manual", "_manual1.gif"), ("RITE", "vessel", f"_{part}.png")):
            for folder in ("images", truth, "mask"):
                (tmp_path / base / part / folder).mkdir(parents=True, exist_ok=True)
            photograph(index).save(tmp_path / base / part / "images" / f"{number}_{part}.tif")
            mask(index).save(tmp_path / base / part / truth / f"{number}{ending}")
            Image.fromarray(EYES.read(EYES.find(None).entries[index]).fov).save(
                tmp_path / base / part / "mask" / f"{number}_{part}_mask.gif"
            )
    assert check(Transfer(sources=(clinic("a", 4).dataset,), targets=(Drive(), Rite())), tmp_path) == ()
    with pytest.raises(OverlapError, match="4 pairs of photographs of 'folder_b' and 'drive'"):
        check(Transfer(sources=(clinic("b", 0).dataset,), targets=(Drive(),)), tmp_path)


def test_an_altered_copy_is_said_with_its_files(clinic, check) -> None:
    small = photograph(2).resize((SIZE * 2, SIZE * 2), Image.Resampling.BICUBIC)
    mirrored = photograph(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    one = clinic("a", 0).dataset
    other = clinic("b", 4).add(0, "0", "turned.png", image=mirrored)
    big = Clinic(other.base.parent / "c").add(6, "test").add(8, "0")
    small.save(big.base / "images" / "large.png")
    mask(2).resize(small.size, Image.Resampling.NEAREST).save(big.base / "masks" / "large.png")
    big.lines.append("large,large,1")
    doubts = check(Transfer(sources=(one,), targets=(other.dataset,)))
    assert [doubt.recorded for doubt in doubts] == ["alike: folder_a p0 and folder_b turned"]
    assert "look like copies, resized, compressed, cropped or mirrored" in str(doubts[0])
    assert f"{one.path}/images/p0.png and {other.base}/images/turned.png" in str(doubts[0])
    doubts = check(Transfer(sources=(one,), targets=(big.dataset,)))
    assert [doubt.recorded for doubt in doubts] == ["alike: folder_a p2 and folder_c large"]


def test_pictures_without_content_are_refused(clinic, check) -> None:
    blank = Image.fromarray(np.full((SIZE, SIZE, 3), 90, np.uint8))
    one = clinic("a", 0).add(0, "1", "blank.png", image=blank)
    with pytest.raises(DataError, match=r"a/images/blank.png: an image must show something"):
        check(Transfer(sources=(one.dataset,), targets=(clinic("b", 4).add(4, "1", "empty.png", image=blank).dataset,)))
