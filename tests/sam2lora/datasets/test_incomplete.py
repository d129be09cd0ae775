"""Published sets of which some images cannot be used: what is left out, what stays as it was, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from pydantic import TypeAdapter, ValidationError

from sam2lora.choice import digest, from_json, to_json
from sam2lora.datasets import (
    DATASETS,
    G1020,
    Dataset,
    Drive,
    Folder,
    Incomplete,
    Origa,
    Refuge1,
    Stare,
    cached,
    left_out,
    parse_dataset,
    with_target,
)
from sam2lora.datasets.__main__ import main
from sam2lora.datasets.cache import assigned
from sam2lora.datasets.naming import Named, parse
from sam2lora.errors import DataError, OverlapError
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, Transfer

SKIPPING = Incomplete(dataset=Drive(), unreadable="skip", missing="skip")


def test_options_of_every_published_set_make_an_incomplete_one() -> None:
    for dataset in DATASETS:
        assert parse_dataset(f"{dataset.name}:unreadable=skip") == Incomplete(dataset=dataset, unreadable="skip")
        assert parse_dataset(f"{dataset.name}:unreadable=refuse:missing=refuse") == dataset
    wanted = Incomplete(dataset=Refuge1(target="cup"), missing="skip")
    assert (
        parse_dataset("refuge1:target=cup:missing=skip") == parse_dataset("refuge1:missing=skip:target=cup") == wanted
    )
    assert parse_dataset("drishti_gs1_1024:missing=skip").name == "drishti_gs1_1024"
    assert parse_dataset("folder:path=a:missing=skip") == Folder(path="a", missing="skip")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drive:unreadable=keep", "unreadable of drive must be one of refuse, skip, .* says 'keep'"),
        ("drive:missing=skip:missing=skip", "must be set once"),
        ("drive:mising=skip", "drive has the fields annotator, unreadable, missing, .*: did you mean 'missing'"),
        ("drive:dataset=stare", "sets 'dataset'"),
        ("alder:missing=skip", "alder has the fields images, size, seed, target, but"),
        ("incomplete:missing=skip", "There is no data set 'incomplete'"),
    ],
)
def test_wrong_options_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_dataset(text)


def test_no_set_has_an_option_of_these_names() -> None:
    """Or a name would mean two things."""
    for dataset in DATASETS:
        assert not hasattr(dataset, "unreadable")
        assert not hasattr(dataset, "missing")
    assert parse("drive:missing=skip", {"drive": Named(Drive)}).dataset == Drive()


def test_sets_without_these_options_keep_the_digests_that_trials_are_stored_under() -> None:
    """Written down before there were such options; a digest that moves orphans finished trials."""
    assert digest(parse_dataset("drive")) == "04fd2096474777b6"
    assert digest(parse_dataset("refuge1:target=cup:unreadable=refuse")) == "436f1b1eb415b7fb"
    assert digest(*DATASETS) == "fea04b022806aa54"
    assert digest(Transfer(sources=(parse_dataset("drive"),), targets=(parse_dataset("stare"),))) == "af4ecb4596bf466d"


def test_a_set_that_skips_nothing_has_one_form() -> None:
    with pytest.raises(ValidationError, match="must skip something, but it refuses all: name the set itself"):
        Incomplete(dataset=Drive())
    with pytest.raises(ValidationError):
        Incomplete(dataset=SKIPPING, missing="skip")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Incomplete(dataset=Folder(path="a"), missing="skip")  # type: ignore[arg-type]


def test_the_record_reads_a_protocol_of_incomplete_sets_back() -> None:
    protocol = Transfer(sources=(SKIPPING,), targets=(parse_dataset("refuge1:missing=skip"), Stare())[1:])
    assert from_json(Transfer, to_json(protocol)) == protocol
    assert TypeAdapter(list[Dataset]).validate_json(f"[{to_json(SKIPPING)}]") == [SKIPPING]
    kinds = {to_json(SKIPPING), to_json(Drive()), to_json(replace(SKIPPING, missing="refuse"))}
    assert len(kinds) == 3


def test_it_is_the_set_whose_patients_it_holds() -> None:
    for dataset in DATASETS:
        one = Incomplete(dataset=dataset, missing="skip")
        for what in ("name", "title", "target", "complete", "licence", "overlaps"):
            assert getattr(one, what) == getattr(dataset, what)
    with pytest.raises(OverlapError, match="source 'drive' and target 'rite' share drive"):
        Transfer(sources=(SKIPPING,), targets=(parse_dataset("rite:missing=skip"),))
    with pytest.raises(OverlapError):
        Transfer(sources=(Drive(),), targets=(SKIPPING,))
    with pytest.raises(DataError, match="'drive' is named twice"):
        FewShot(sources=(SKIPPING,), targets=(replace(SKIPPING, missing="refuse"),), shots=1)
    with pytest.raises(DataError, match="'drive' is named twice"):
        LeaveOneDatasetOut(datasets=(SKIPPING, Drive()), held_out="drive")


def test_it_is_aimed_as_its_set_is() -> None:
    assert with_target(parse_dataset("refuge1:missing=skip"), "cup") == parse_dataset("refuge1:target=cup:missing=skip")
    assert with_target(SKIPPING, "vessel") == SKIPPING
    with pytest.raises(DataError, match="'drive' holds vessel, and disc was asked for"):
        with_target(SKIPPING, "disc")


def test_an_image_that_cannot_be_read_is_left_out_and_no_other_moves(dataset, tree, tmp_path) -> None:
    """Of every published set; what is mended later is another set of images."""
    root, place = tree(dataset.name), tmp_path / "cache"
    skipping = Incomplete(dataset=dataset, unreadable="skip")
    whole = cached(skipping, root, 32, place)
    assert whole.skipped == ()
    first, *others = dataset.find(root).entries
    kept = first.image.read_bytes()
    first.image.write_bytes(b"")
    opened = cached(skipping, root, 32, place)
    assert opened.ids == tuple(entry.id for entry in others)
    assert opened.splits == whole.splits[1:]
    assert opened.digest != whole.digest
    assert "it is empty" in opened.skipped[0]
    assert f"1 of {len(whole)} images of {dataset.name} cannot be read" in " ".join(left_out([opened]))
    first.image.write_bytes(kept)
    assert cached(skipping, root, 32, place).digest == whole.digest


def test_an_image_without_a_mask_is_left_out_and_no_committed_split_moves(dataset, tree) -> None:
    """Of every published set, with all files of that image counted."""
    root = tree(dataset.name)
    skipping = Incomplete(dataset=dataset, missing="skip")
    whole = dataset.find(root)
    assert skipping.find(root) == whole
    alone, *others = whole.entries
    alone.masks[0].unlink()
    problem = dataset.find(root).problems[0]
    assert problem.rule == "every image needs its mask"
    assert "missing=skip" in problem.remedy
    found = skipping.find(root)
    assert (found.problems, found.entries) == ((), tuple(others))
    unpaired = [one.path for one in found.left_out if one.kind == "unpaired"]
    assert unpaired == sorted(file for file in alone.files if file != alone.masks[0])
    if table := dataset.assignment(()):
        assert assigned(skipping, found.entries) == tuple(table[entry.id] for entry in others)


def test_a_mask_that_comes_later_makes_another_set_of_images(tree, tmp_path) -> None:
    root, place = tree("drive"), tmp_path / "cache"
    whole = cached(SKIPPING, root, 32, place)
    mask = root / "DRIVE/training/1st_manual/22_manual1.gif"
    kept = mask.read_bytes()
    mask.unlink()
    opened = cached(SKIPPING, root, 32, place)
    assert opened.ids == ("01", "02", "21")
    assert opened.splits == whole.splits[:3]
    assert left_out([opened])[0].startswith("left out of the folders of drive: 2 unpaired files")
    assert opened.absent == ("images/22_training.tif: it is unpaired", "mask/22_training_mask.gif: it is unpaired")
    mask.write_bytes(kept)
    assert cached(SKIPPING, root, 32, place).digest == whole.digest != opened.digest


def test_an_image_without_the_field_of_view_or_one_of_two_graders_stands_alone(tree) -> None:
    root = tree("drive", "hrf")
    (root / "DRIVE/test/2nd_manual/01_manual2.gif").unlink()
    (root / "HRF/mask/06_h_mask.tif").unlink()
    (root / "HRF/images/01_g.jpg").unlink()
    drive = parse_dataset("drive:annotator=union:missing=skip").find(root)
    assert [entry.id for entry in drive.entries] == [
        "02",
        "21",
        "22",
    ]
    found = parse_dataset("hrf:missing=skip").find(root)
    assert [entry.id for entry in found.entries] == ["01_dr"]
    files = sorted(one.path.name for one in found.left_out if one.kind == "unpaired")
    assert files == ["01_g.tif", "06_h.jpg", "06_h.tif"]


def test_what_is_still_refused(tree, tmp_path) -> None:
    root = tree("drive")
    with pytest.raises(DataError, match="must lie in a folder DRIVE"):
        SKIPPING.find(tmp_path)
    shutil.rmtree(root / "DRIVE/test/1st_manual")
    with pytest.raises(DataError, match="every image needs its mask, but this folder holds none"):
        cached(SKIPPING, root, 32, tmp_path / "cache")
    shutil.rmtree(root / "DRIVE/test")
    assert set(cached(SKIPPING, root, 32, tmp_path / "cache").splits) <= set("01234")
    for path in (root / "DRIVE/training/images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="DRIVE cannot be used, 2 problems"):
        cached(SKIPPING, root, 32, tmp_path / "cache")


def test_a_set_of_which_all_stands_alone_is_refused(tree, tmp_path) -> None:
    root = tree("hrf")
    for number, path in enumerate(sorted((root / "HRF/mask").iterdir())):
        path.rename(path.with_name(f"{number}_other_mask.tif"))
    with pytest.raises(DataError, match="none of these 3 has one"):
        cached(parse_dataset("hrf:missing=skip"), root, 32, tmp_path / "cache")
    (root / "HRF/mask/0_other_mask.tif").rename(root / "HRF/mask/01_dr_mask.tif")
    assert cached(parse_dataset("hrf:missing=skip"), root, 32, tmp_path / "cache").ids == ("01_dr",)


def test_an_image_that_no_split_knows_is_refused(tree, tmp_path) -> None:
    root = tree("hrf")
    for part, name in (("images", "99_x.jpg"), ("manual1", "99_x.tif"), ("mask", "99_x_mask.tif")):
        (known,) = (root / "HRF" / part).glob("01_g*")
        shutil.copy(known, root / "HRF" / part / name)
    with pytest.raises(DataError, match="every image must be in the split of its set, but 99_x is not"):
        cached(parse_dataset("hrf:missing=skip:unreadable=skip"), root, 32, tmp_path / "cache")


def test_an_outline_that_tells_of_a_cup_and_cannot_be_read_is_skipped_too(tree, tmp_path) -> None:
    """The outlines of G1020 are opened where its images are listed."""
    root = tree("g1020")
    (root / "G1020/Images/image_1.json").write_text("{")
    for target in ("disc", "cup"):
        one = Incomplete(dataset=G1020(target=target), unreadable="skip")
        assert cached(one, root, 32, tmp_path / "cache").ids == ("image_0", "image_12")
        with pytest.raises(DataError, match=r"1 problem:\n.*image_1\.json"):
            cached(one.dataset, root, 32, tmp_path / "cache")


def test_a_list_of_the_owners_is_no_image(tree, tmp_path) -> None:
    root = tree("origa")
    (root / "ORIGA/OrigaList.csv").unlink()
    with pytest.raises(DataError, match="the sets A and B must be listed"):
        cached(Incomplete(dataset=Origa(), unreadable="skip", missing="skip"), root, 32, tmp_path / "cache")


def test_the_command_says_what_is_left_out(tree, capsys) -> None:
    root = tree("drive")
    (root / "DRIVE/training/images/21_training.tif").write_bytes(b"")
    (root / "DRIVE/test/1st_manual/01_manual1.gif").unlink()
    assert main([str(root), "--set", "drive"]) == 1
    assert main([str(root), "--set", "drive:unreadable=skip"]) == 1
    capsys.readouterr()
    assert main([str(root), "--set", "drive:unreadable=skip:missing=skip"]) == 0
    text = capsys.readouterr().out
    asked = text[text.index("Left out as requested") :]
    for place in ("images/01_test.tif", "mask/01_test_mask.gif"):
        assert f"drive: {root / 'DRIVE/test' / place}: it is unpaired" in asked
    assert "21_training.tif: an image file must be readable, but it is empty" in text
    assert "Problems" not in text
    assert "3/40" in text
