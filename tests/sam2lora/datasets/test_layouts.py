"""Every published set is found and read in its owners' layout, and says what is wrong with a broken copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from sam2lora.datasets import (
    HRF,
    Aria,
    ChaseDB1,
    DRHagis,
    DrishtiGS1,
    Drive,
    Fives,
    Idrid,
    Iostar,
    LesAV,
    Orvs,
    Rite,
    Stare,
)
from sam2lora.datasets.layout import MissingFolderError, by_stem, folder, gather
from sam2lora.datasets.pairs import Entry, Found
from sam2lora.datasets.splits import FOLDS
from sam2lora.errors import DataError

IDS = {
    "drive": ("01", "02", "21", "22"),
    "stare": ("im0001", "im0255"),
    "chase_db1": ("01L", "01R", "14L"),
    "hrf": ("01_dr", "01_g", "06_h"),
    "fives": ("test/1_A", "train/1_A"),
    "les_av": ("275", "276"),
    "rite": ("01", "21"),
    "iostar": ("01_OSC", "34_ODC"),
    "orvs": ("test/1", "train/1", "train/2"),
    "dr_hagis": ("1", "24", "40"),
    "av_wide": ("01", "02"),
    "aria": ("a/aria_a_1", "c/aria_c_1", "d/aria_d_1"),
    "drishti_gs1": ("001", "002"),
    "idrid": ("IDRiD_01", "IDRiD_55"),
    "refuge1": ("T0001", "T0002", "V0001", "g0001", "n0360"),
    "refuge2": ("test/T0001", "test/T0002", "train/g0001", "train/n0001", "val/V0001"),
    "origa": ("001", "002", "003"),
    "g1020": ("image_0", "image_1", "image_12"),
    "rim_one_r3": ("N-1-L", "N-10-R", "S-2-L"),
    "rim_one_dl": ("r1_Im001", "r2_Im002", "r3_N-10-R"),
    "papila": ("RET002OD", "RET002OS", "RET004OD"),
    "grape": ("1_OD_1", "1_OS_2", "20_OD_1"),
    "drions_db": ("001", "061", "101"),
}
CROPS = ("rim_one_r3", "rim_one_dl", "grape")  # show the disc alone: no border, so all of them is seen


def only(problems):
    assert len(problems) == 1
    return str(problems[0])


def test_entries_are_sorted_and_complete(dataset, tree):
    found = dataset.find(tree(dataset.name))
    assert found.problems == ()
    assert tuple(entry.id for entry in found.entries) == IDS[dataset.name]
    assert all(file.is_file() for entry in found.entries for file in entry.files)
    assert set(IDS[dataset.name]) <= set(dataset.assignment(found.entries))


def test_the_order_in_which_a_file_system_lists_its_files_changes_nothing(dataset, tree, monkeypatch):
    root = tree(dataset.name)
    found = dataset.find(root)
    asked = []

    def backwards(own):
        def listing(*arguments, **options):
            asked.append(own)
            return iter(sorted(own(*arguments, **options), reverse=True))

        return listing

    for name in ("iterdir", "glob", "rglob"):
        monkeypatch.setattr(Path, name, backwards(getattr(Path, name)))
    again = dataset.find(root)
    assert asked
    assert again == found
    assert list(dataset.assignment(again.entries).items()) == list(dataset.assignment(found.entries).items())


def test_a_pair_is_what_was_drawn(dataset, tree, drawing):
    for entry in dataset.find(tree(dataset.name)).entries:
        pair = dataset.read(entry)
        assert pair.image.shape == (drawing.height, drawing.width, 3)
        assert pair.image.dtype == np.uint8
        assert pair.mask.dtype == pair.fov.dtype == np.bool_
        np.testing.assert_array_equal(pair.mask, drawing.truth(dataset.target))
        overlap = (pair.fov & drawing.lit()).sum() / (pair.fov | drawing.lit()).sum()
        if dataset.name in CROPS:
            assert pair.fov.all()
        else:
            assert overlap == 1.0 if entry.fov is not None else overlap > 0.9


def test_a_missing_folder_names_what_was_looked_for_and_what_is_there(dataset, tree, tmp_path):
    root = tree()
    (root / "SOMETHING").mkdir()
    with pytest.raises(MissingFolderError, match=r"must lie in a folder .*there is SOMETHING: download") as error:
        dataset.find(root)
    assert dataset.title in str(error.value)
    with pytest.raises(DataError, match="must be a folder, but it is none"):
        dataset.find(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"{dataset.title} must be read from a data root, but none was named: name one"):
        dataset.find(None)


def test_an_empty_folder_is_a_problem(dataset, tree):
    name = {
        "chase_db1": "CHASEDB1",
        "drishti_gs1": "DRISHTI-GS1",
        "idrid": "IDRiD",
        "rim_one_r3": "RIM-ONE r3",
        "rim_one_dl": "RIM-ONE DL",
        "drions_db": "DRIONS-DB",
    }
    root = tree()
    (root / name.get(dataset.name, dataset.name.upper())).mkdir()
    assert "must hold its images, but none was found" in only(dataset.find(root).problems)


def test_an_image_without_a_mask_and_a_mask_without_an_image(dataset, tree):
    root = tree(dataset.name)
    first, second, *_ = dataset.find(root).entries
    first.masks[0].unlink()
    second.image.unlink()
    texts = [str(problem) for problem in dataset.find(root).problems]
    assert len(texts) == 2
    mask, image = sorted(texts, key=lambda text: "every mask needs its image" in text)
    assert mask.startswith(f"{first.image}: every image needs its mask, but ")
    assert f"holds none for {first.id}: add it" in mask
    assert image.startswith(f"{second.masks[0]}: every mask needs its image, but there is no image {second.id}: add it")


@pytest.mark.parametrize("name", ["CHASE_DB1", "chasedb1"])
def test_folders_are_found_by_other_names(name, tree):
    root = tree("chase_db1")
    (root / "CHASEDB1").rename(root / name)
    assert len(ChaseDB1().find(root).entries) == 3


def test_archives_may_lie_unpacked_in_the_root(tree):
    root = tree("idrid", "drishti_gs1")
    (root / "IDRiD" / "A. Segmentation").rename(root / "A. Segmentation")
    shutil.rmtree(root / "IDRiD")
    (root / "DRISHTI-GS1" / "Drishti-GS1_files").rename(root / "Drishti-GS1_files")
    shutil.rmtree(root / "DRISHTI-GS1")
    assert len(Idrid().find(root).entries) == len(DrishtiGS1().find(root).entries) == 2


def test_two_folders_of_one_set_are_not_guessed_between(tree):
    root = tree("chase_db1")
    shutil.copytree(root / "CHASEDB1", root / "CHASE_DB1")
    with pytest.raises(DataError, match="must lie in one folder, but there are CHASEDB1 and CHASE_DB1: keep one"):
        ChaseDB1().find(root)


def test_two_files_of_one_image_are_not_guessed_between(tree, drawing):
    root = tree("stare")
    drawing.save(drawing.photograph(), root / "STARE" / "stare-images" / "im0001.ppm.gz")
    with pytest.raises(DataError, match=r"an image must be one file, but there is im0001.ppm as well"):
        Stare().find(root)


def test_a_set_in_half_its_layout_is_one_problem(tree):
    root = tree("stare")
    shutil.rmtree(root / "STARE" / "labels-ah")
    text = only(Stare().find(root).problems)
    assert text.startswith(f"{root / 'STARE' / 'labels-ah'}: every image needs its mask, but there are 2 images and no")
    root = tree("stare")
    shutil.rmtree(root / "STARE" / "stare-images")
    text = only(Stare().find(root).problems)
    assert "labels-ah: every mask needs its image, but none of its 2 masks has one: copy the images as well" in text


def test_an_archive_unpacked_one_folder_too_deep(dataset, tree):
    root = tree(dataset.name)
    (base,) = root.iterdir()
    (root / "x").mkdir()
    base.rename(root / "x" / "inner")
    (root / "x").rename(base)
    text = only(dataset.find(root).problems)
    assert f"but all that it holds is the folder inner: move the contents of {base / 'inner'} to {base}." in text


def test_other_files_are_passed_over(tree):
    root = tree("hrf")
    for name in ("Thumbs.db", ".hidden.jpg", "readme.txt"):
        (root / "HRF" / "images" / name).write_text("")
    assert len(HRF().find(root).entries) == 3
    assert by_stem(root / "nowhere") == {}


def test_parts_are_sorted_by_id_and_not_by_place(tmp_path):
    parts = [Found((Entry(identity, identity, tmp_path / place, ()),)) for identity, place in (("b", "1"), ("a", "2"))]
    assert [entry.id for entry in gather(tmp_path, "X", parts).entries] == ["a", "b"]


def test_the_listing_of_an_empty_root(tmp_path):
    with pytest.raises(MissingFolderError, match="in a folder A or B, but there is nothing: ask for C") as error:
        folder(tmp_path, ("A", "B"), "X", "ask for C")
    assert error.value.names == ("A", "B")


@pytest.mark.parametrize(("annotator", "grader"), [("first", 1), ("second", 2), ("union", 1), ("intersection", 2)])
def test_graders_of_stare_and_chase(annotator, grader, tree, drawing):
    """The second grader draws a part of what the first does, so union and intersection are one of the two."""
    root = tree("stare", "chase_db1")
    for dataset in (Stare(annotator=annotator), ChaseDB1(annotator=annotator)):
        for entry in dataset.find(root).entries:
            assert len(entry.masks) == (1 if annotator in ("first", "second") else 2)
            np.testing.assert_array_equal(dataset.read(entry).mask, drawing.truth(grader=grader))


@pytest.mark.parametrize(("annotator", "grader"), [("second", 2), ("union", 1), ("intersection", 2)])
def test_drive_has_a_second_grader_for_the_test_alone(annotator, grader, tree, drawing):
    root = tree("drive")
    dataset = Drive(annotator=annotator)
    found = dataset.find(root)
    assert found.problems == ()
    parts = {entry.id: dataset.assignment(())[entry.id] for entry in found.entries}
    assert {"test"} < set(parts.values())
    for entry in found.entries:
        drawn = drawing.truth(grader=grader if parts[entry.id] == "test" else 1)
        np.testing.assert_array_equal(dataset.read(entry).mask, drawn)


def test_the_archive_of_the_challenge_has_no_test_masks(tree):
    root = tree("drive")
    shutil.rmtree(root / "DRIVE" / "test" / "1st_manual")
    found = Drive().find(root)
    assert "the archive of the challenge holds no test masks" in only(found.problems)
    assert "remove the folder test" in only(found.problems)
    shutil.rmtree(root / "DRIVE" / "test")
    assert Drive().find(root).problems == ()


def test_a_missing_field_of_view(tree):
    root = tree("hrf")
    (root / "HRF" / "mask" / "01_g_mask.tif").unlink()
    assert "every image needs its field of view" in only(HRF().find(root).problems)


def test_votes_of_the_soft_map(tree, drawing):
    root = tree("drishti_gs1")
    masks = {}
    for annotator in ("union", "majority", "intersection"):
        dataset = DrishtiGS1(annotator=annotator)
        masks[annotator] = dataset.read(dataset.find(root).entries[0]).mask
    disc = drawing.truth("disc")
    np.testing.assert_array_equal(masks["majority"], disc)
    np.testing.assert_array_equal(masks["union"], disc | np.roll(disc, 2, axis=1))
    assert 0 < masks["intersection"].sum() < disc.sum()
    assert not (masks["intersection"] & ~disc).any()


@pytest.mark.parametrize(("rows", "columns", "works"), [(8, 3, True), (0, 0, True), (9, 0, False), (-1, 0, False)])
def test_soft_maps_may_lack_a_few_pixels(rows, columns, works, tree, drawing):
    root = tree("drishti_gs1")
    dataset = DrishtiGS1()
    entry = dataset.find(root).entries[0]
    soft = np.zeros((drawing.height - rows, drawing.width - columns), bool)
    soft[24:36, 34:46] = True
    drawing.save(drawing.grey(soft), entry.masks[0])
    if works:
        mask = dataset.read(entry).mask
        assert mask.shape == (drawing.height, drawing.width)
        assert mask[24:36, 34:46].all()
        assert mask.sum() == 144
    else:
        with pytest.raises(DataError, match="a soft map must have the size of its image, 72x60, or up to 8 "):
            dataset.read(entry)


def test_soft_maps_must_be_grey(tree, drawing):
    dataset = DrishtiGS1()
    entry = dataset.find(tree("drishti_gs1")).entries[0]
    drawing.save(drawing.photograph(), entry.masks[0])
    with pytest.raises(DataError, match="a soft map must be 8-bit grey, but its mode is RGB"):
        dataset.read(entry)


def test_the_copy_of_drishti_is_asked_for_and_never_mixed_in(tree):
    root = tree("drishti_gs1")
    owners, copy = DrishtiGS1(), DrishtiGS1(copy="1024")
    assert owners.name != copy.name
    assert owners.overlaps == copy.overlaps
    with pytest.raises(MissingFolderError, match=r'ask for DrishtiGS1\(copy="owners"\), whose folder is there'):
        copy.find(root)
    (root / "DRISHTI-GS1").rename(root / "DRISHTI-GS1_1024")
    assert len(copy.find(root).entries) == 2
    with pytest.raises(MissingFolderError, match=r'ask for DrishtiGS1\(copy="1024"\)'):
        owners.find(root)


@pytest.mark.parametrize(("annotator", "grader"), [("first", 1), ("second", 2), ("union", 1), ("intersection", 2)])
def test_graders_of_aria(annotator, grader, tree, drawing):
    dataset = Aria(annotator=annotator)
    for entry in dataset.find(tree("aria")).entries:
        np.testing.assert_array_equal(dataset.read(entry).mask, drawing.truth(grader=grader))


def test_two_files_of_aria_that_would_bear_one_name(tree, drawing):
    root = tree("aria")
    drawing.save(drawing.photograph(), root / "ARIA" / "aria_a_markups" / "(0002) aria_a_1.tif")
    with pytest.raises(DataError, match=r"an image must be one file, but there is \(0001\) aria_a_1.tif as well"):
        Aria().find(root)


def test_arteries_and_veins_of_rite(tree, drawing):
    """The line is artery, crossing, vein and uncertain from left to right; crossings are both, uncertain is neither."""
    root = tree("rite")
    columns = np.mgrid[: drawing.height, : drawing.width][1]
    for vessels, part in (
        ("all", columns >= 0),
        ("artery", columns <= 38),
        ("vein", (columns >= 34) & (columns <= 50)),
    ):
        dataset = Rite(vessels=vessels)
        for entry in dataset.find(root).entries:
            assert entry.masks[0].parent.name == ("vessel" if vessels == "all" else "av")
            np.testing.assert_array_equal(dataset.read(entry).mask, drawing.truth() & part)


def test_other_colours_in_an_artery_vein_mask_are_refused(tree, drawing):
    dataset = Rite(vessels="vein")
    entry = dataset.find(tree("rite")).entries[0]
    for colour, text in (((255, 255, 0), r"\(255, 255, 0\)"), ((128, 0, 0), r"\(128, 0, 0\)")):
        odd = drawing.arteries_and_veins()
        odd.putpixel((0, 0), colour)
        drawing.save(odd, entry.masks[0])
        with pytest.raises(DataError, match=f"white and black alone, but 1 pixels are not, the first of them {text}"):
            dataset.read(entry)
    drawing.save(drawing.arteries_and_veins().crop((0, 0, 71, 60)), entry.masks[0])
    with pytest.raises(DataError, match="must have the size of its image, 72x60, but it has 71x60"):
        dataset.read(entry)


def test_rite_shows_the_patients_of_drive_in_their_splits(tree):
    root = tree("rite", "drive")
    assert Rite().overlaps == Drive().overlaps
    assert Rite().assignment(()) == Drive().assignment(())
    assert {entry.id for entry in Rite().find(root).entries} <= {entry.id for entry in Drive().find(root).entries}


def test_the_inverted_discs_of_iostar_are_no_vessels(tree):
    """The tiny set has them in a folder of their own and among the vessels; read as vessels they would be refused."""
    for entry in Iostar().find(tree("iostar")).entries:
        assert not any("ODMask" in file.name for file in entry.files)
        assert entry.patient == entry.id[:2]


def test_the_agreed_test_part_of_iostar(tree):
    entries = [
        Entry(f"{n:02d}_OSC", f"{n:02d}", Path(), ()) for n in (*range(1, 21), 34, *range(36, 41), 43, 44, 45, 48)
    ]
    table = Iostar().assignment(entries)
    assert [image for image, split in table.items() if split == "test"] == [
        f"{number}_OSC" for number in (34, 36, 37, 38, 39, 40, 43, 44, 45, 48)
    ]
    assert sorted(table.values())[:20] == sorted(FOLDS * 4)


def test_the_folders_of_orvs_are_its_split(tree, drawing):
    root = tree("orvs")
    entries = Orvs().find(root).entries
    table = Orvs().assignment(entries)
    assert table["test/1"] == "test"
    assert {table["train/1"], table["train/2"]} <= set(FOLDS)
    assert np.unique(np.asarray(Image.open(entries[0].masks[0]))).size > 2


def test_the_twofold_photograph_of_dr_hagis_is_left_out(tree):
    root = tree("dr_hagis")
    for place in ("Manual_Segmentations/32_manual_orig.png", "Mask_images/32_mask_orig.png"):
        (root / "DRHAGIS" / place).unlink()
    assert DRHagis().find(root).problems == ()
    assert "32" not in DRHagis().assignment(())
    assert "24" in DRHagis().assignment(())


def test_fields_of_view_of_les_av_by_either_name(tree):
    root = tree("les_av")
    (root / "LES-AV" / "masks" / "275_mask.gif").rename(root / "LES-AV" / "masks" / "275.gif")
    assert [entry.fov.name for entry in LesAV().find(root).entries] == ["275.gif", "276_mask.gif"]


def test_masks_of_stare_may_be_grey(tree, drawing):
    root = tree("stare")
    place = root / "STARE" / "labels-ah"
    (place / "im0001.ah.ppm").unlink()
    drawing.save(drawing.grey(drawing.truth()), place / "im0001.ah.pgm")
    entry = Stare().find(root).entries[0]
    assert entry.masks[0].suffix == ".pgm"
    np.testing.assert_array_equal(Stare().read(entry).mask, drawing.truth())


def test_parts_of_fives_are_told_apart(tree):
    entries = Fives().find(tree("fives")).entries
    assert [entry.image.parts[-3] for entry in entries] == ["test", "train"]
    assert len({entry.patient for entry in entries}) == 2


def test_the_two_eyes_of_a_child_are_one_patient(tree):
    entries = ChaseDB1().find(tree("chase_db1")).entries
    assert [entry.patient for entry in entries] == ["01", "01", "14"]


@pytest.mark.parametrize("kind", [Drive, Stare, ChaseDB1])
def test_an_unknown_annotator_is_refused(kind):
    with pytest.raises(ValidationError):
        kind(annotator="third")
