"""A folder of one's own: its layout, its options, its listing of patients, and what is left out of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from sam2lora.choice import to_json
from sam2lora.datasets import Folder, cached, left_out, parse_dataset
from sam2lora.datasets.layout import MissingFolderError
from sam2lora.datasets.splits import FOLDS
from sam2lora.errors import DataError, OverlapError
from sam2lora.protocols import Transfer

IDS = tuple("abcdefgh")


@pytest.fixture
def clinic(tmp_path, drawing):
    """Eight images without fields of view."""
    base = tmp_path / "root" / "My Clinic"
    for identity in IDS:
        drawing.save(drawing.photograph(), base / "images" / f"{identity}.png")
        drawing.save(drawing.grey(drawing.truth()), base / "masks" / f"{identity}.tif")
    return base


def dataset(**options):
    return Folder(path="My Clinic", **options)


def listed(clinic, text):
    (clinic / "patients.csv").write_text(text)
    return dataset().find(clinic.parent)


def test_a_folder_is_found_and_read(clinic, drawing):
    for one, root in ((dataset(), clinic.parent), (Folder(path=str(clinic)), None), (Folder(path=str(clinic)), clinic)):
        found = one.find(root)
        assert found.problems == ()
        assert tuple(entry.id for entry in found.entries) == IDS
        pair = one.read(found.entries[0])
        np.testing.assert_array_equal(pair.mask, drawing.truth())
    assert dataset().read(found.entries[0]).fov.mean() < 1


def test_pictures_of_the_disc_alone_may_be_covered_by_more_than_half(clinic, drawing):
    for identity in IDS:
        drawing.save(drawing.photograph().crop((30, 30, 50, 50)), clinic / "images" / f"{identity}.png")
        mask = np.ones((20, 20), bool)
        mask[:, :6] = False
        drawing.save(drawing.grey(mask), clinic / "masks" / f"{identity}.tif")
    entry = dataset().find(clinic.parent).entries[0]
    with pytest.raises(DataError, match=r"less than half of .* covers \d+%.*or set view=crop if the pictures show the"):
        dataset().read(entry)
    pair = dataset(view="crop").read(entry)
    np.testing.assert_array_equal(pair.mask, mask)
    assert pair.fov.all()
    drawing.save(drawing.grey(np.ones((20, 20), bool)), entry.masks[0])
    with pytest.raises(DataError, match=r"less than all of .* covers 100%: check its coding"):
        dataset(view="crop").read(entry)


def test_shipped_fields_of_view_are_used_and_must_be_complete(clinic, drawing):
    for identity in IDS:
        drawing.save(drawing.grey(drawing.lit()), clinic / "fov" / f"{identity}.png")
    entry = dataset().find(clinic.parent).entries[0]
    np.testing.assert_array_equal(dataset().read(entry).fov, drawing.lit())
    (clinic / "fov" / "c.png").unlink()
    (problem,) = dataset().find(clinic.parent).problems
    assert "c.png: every image needs its field of view" in str(problem)
    for path in (clinic / "fov").iterdir():
        path.unlink()
    (problem,) = dataset().find(clinic.parent).problems
    assert "images: every image needs its field of view, but none of these 8 has one" in str(problem)


@pytest.mark.parametrize(
    ("path", "name"), [("clinic", "clinic"), ("A b/C-d", "a_b_c_d"), ("/data/x/Clinic 2", "clinic_2"), ("über", "über")]
)
def test_the_name_is_that_of_the_folder(path, name):
    assert Folder(path=path).name == f"folder_{name}"
    assert Folder(path=path).overlaps == Folder(path=path, target="cup", label="another").overlaps
    assert Folder(path=path, label="Site B").name == "folder_site_b"
    assert parse_dataset(f"folder:path={path}:target=disc") == Folder(path=path, target="disc")


@pytest.mark.parametrize("path", ["", ".", "/", "../.."])
def test_a_path_without_a_name_is_refused(path):
    with pytest.raises(ValidationError, match="must name a folder"):
        Folder(path=path)


def test_a_missing_folder(clinic):
    with pytest.raises(MissingFolderError, match="The folder none must be a folder, but there is none: write the path"):
        Folder(path="none").find(clinic.parent)
    with pytest.raises(DataError, match=r"but none was named: name one, with --data .*, or write the whole path"):
        dataset().find(None)


def test_patients_are_dealt_and_the_name_of_the_folder_has_no_part_in_it(clinic):
    lines = [f"{identity},{'pq'[place % 2]}{place // 4}" for place, identity in enumerate(IDS)]
    entries = listed(clinic, "\n".join(["image,patient", *lines])).entries
    assert [entry.patient for entry in entries[:3]] == ["p0", "q0", "p0"]
    table = dataset().assignment(entries)
    assert len({(entry.patient, table[entry.id]) for entry in entries}) == 4
    assert Folder(path="elsewhere").assignment(entries) == table
    assert "test" in table.values()


def test_a_listed_split_is_kept(clinic):
    """As a spreadsheet writes it: with a byte order mark and the line ends of another system."""
    splits = [*FOLDS, "test", "test", "0"]
    lines = [f"{identity},{identity},{split}" for identity, split in zip(IDS, splits, strict=True)]
    found = listed(clinic, "\ufeff" + "\r\n".join(["image,patient,split", *lines]))
    assert list(dataset().assignment(found.entries).values()) == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image;patient\na;p",
            "split or image,patient, with commas in every line, but they are image;patient: correct",
        ),
        ("image,patient\na,p", "every image must have a line, but b, c, d, e, f have none: add a line"),
        ("image,patient\na,p\na,q", "line 3: an image must be named once, but a is named again"),
        ("image,patient\na,", "line 2: an image and its patient must be named, but one is empty"),
        ("image,patient,split\na,p,0\nb,p,test", "line 3: a patient must lie in one split, but p is in 0 and test"),
        ("image,patient,split\na,p,train", "a split must be one of 0, 1, 2, 3, 4, test, but it is 'train'"),
        ("image,patient\n" + "".join(f"{i},p\n" for i in (*IDS, "z")), "must name an image, but there is no image z:"),
    ],
)
def test_a_wrong_listing_is_refused(text, message, clinic):
    with pytest.raises(DataError, match=message) as error:
        listed(clinic, text)
    assert "patients.csv" in str(error.value)


def test_a_listing_in_another_encoding_is_refused(clinic):
    (clinic / "patients.csv").write_bytes("image,patient\na,Müller".encode("latin-1"))
    with pytest.raises(DataError, match="a listing must be UTF-8 text"):
        dataset().find(clinic.parent)


def test_an_image_without_the_structure(clinic, drawing, tmp_path):
    drawing.save(drawing.grey(drawing.truth() & False), clinic / "masks" / "b.tif")
    with pytest.raises(DataError, match="must cover more than nothing"):
        cached(dataset(), clinic.parent, 32, tmp_path / "cache")
    kept = cached(dataset(empty="keep"), clinic.parent, 32, tmp_path / "cache")
    assert len(kept) == 8
    assert not kept.masks[1].any()


def test_unreadable_images_are_refused_or_left_out_and_named(clinic, tmp_path):
    """What is left out moves no other image to another split, and its contents are in the digest."""
    place = tmp_path / "cache"
    whole = cached(dataset(unreadable="skip"), clinic.parent, 32, place)
    assert whole.skipped == ()
    (clinic / "images" / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 problem:\n.*c\.png: an image file must be readable, but it is empty"):
        cached(dataset(), clinic.parent, 32, place)
    for _ in range(2):
        one = cached(dataset(unreadable="skip"), clinic.parent, 32, place)
        assert one.ids == tuple("abdefgh")
        assert one.images.shape[0] == one.masks.shape[0] == len(one) == 7
        (text,) = one.skipped
        assert "c.png: an image file must be readable, but it is empty" in text
        assert one.splits == tuple(s for i, s in zip(whole.ids, whole.splits, strict=True) if i != "c")
        for index in range(7):
            assert one.native(index).mask.any()
        np.testing.assert_array_equal(one.images[2], whole.images[3])
    assert one.digest != whole.digest


def test_a_set_of_which_nothing_can_be_read_is_refused(clinic, tmp_path):
    for path in (clinic / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="8 problems"):
        cached(dataset(unreadable="skip"), clinic.parent, 32, tmp_path / "cache")


def test_patients_and_splits_are_in_the_digest(clinic, tmp_path):
    def digest():
        return cached(dataset(), clinic.parent, 32, tmp_path / "cache").digest

    alone = digest()
    lines = "".join(f"{identity},p{place // 2}\n" for place, identity in enumerate(IDS))
    (clinic / "patients.csv").write_text("image,patient\n" + lines)
    people = digest()
    (clinic / "patients.csv").write_text("image,patient,split\n" + lines.replace("\n", ",0\n"))
    assert len({alone, people, digest()}) == 3


def test_half_a_folder_and_one_too_deep(clinic):
    shutil.rmtree(clinic / "masks")
    (problem,) = dataset().find(clinic.parent).problems
    assert "every image needs its mask, but there are 8 images and no mask here" in str(problem)
    (clinic / "inner").mkdir()
    (clinic / "images").rename(clinic / "inner" / "images")
    (problem,) = dataset().find(clinic.parent).problems
    assert "all that it holds is the folder inner: move the contents" in str(problem)


def test_every_option_is_in_the_text_of_the_choice():
    changed = {
        "target": "rim",
        "coding": "index",
        "values": "1+2",
        "empty": "keep",
        "view": "crop",
        "unreadable": "skip",
        "missing": "skip",
        "label": "site",
        "images": "Images",
        "masks": "Labels/{id}_manual1",
        "fov": "{id}_mask",
        "tolerate": 2,
        "parts": "folders",
    }
    text = json.loads(to_json(replace(Folder(path="x"), **changed)))
    assert text == {"kind": "folder", "path": "x", **changed}


def test_parts_have_other_names_and_files_other_rules(tmp_path, drawing):
    base = tmp_path / "set"
    for identity in IDS:
        drawing.save(drawing.photograph(), base / "Images" / f"{identity}_training.tif")
        drawing.save(drawing.grey(drawing.truth()), base / "Truth" / "First" / f"{identity}_manual1.gif")
        drawing.save(drawing.grey(drawing.lit()), base / "Mask" / f"{identity}_mask.gif")
    one = parse_dataset(
        f"folder:path={base}:images=images/{{id}}_training:masks=truth/first/{{id}}_manual1:fov=mask/{{id}}_mask"
    )
    found = one.find(None)
    assert found.problems == ()
    assert tuple(entry.id for entry in found.entries) == IDS
    assert found.entries[0].fov == base / "Mask" / "a_mask.gif"
    np.testing.assert_array_equal(one.read(found.entries[0]).mask, drawing.truth())
    (problem,) = replace(one, fov="circle").find(None).problems
    assert "every image needs its field of view, but none of these 8 has one" in str(problem)


def test_all_files_may_lie_in_one_folder(tmp_path, drawing):
    for identity in IDS:
        drawing.save(drawing.photograph(), tmp_path / f"{identity}.jpg")
        drawing.save(drawing.grey(drawing.truth()), tmp_path / f"{identity}_mask.png")
    found = Folder(path=str(tmp_path), images="{id}", masks="{id}_mask").find(None)
    assert found.problems == ()
    assert [(entry.id, entry.masks[0].name) for entry in found.entries] == [(i, f"{i}_mask.png") for i in IDS]


@pytest.mark.parametrize("part", ["", "../images", "{id}/images", "a/{id}_{id}"])
def test_a_part_that_names_no_files_is_refused(part):
    with pytest.raises(ValidationError, match=r"must be FOLDER, or FOLDER/NAME with one \{id\} in NAME"):
        Folder(path="x", masks=part)


def test_a_name_that_is_not_there_is_told_with_those_that_are(clinic):
    (clinic / "masks").rename(clinic / "Mask_1")
    (clinic / "notes").mkdir()
    (problem,) = dataset().find(clinic.parent).problems
    assert "must hold its masks in masks, but it holds Mask_1, notes: write masks=Mask_1 if that is meant" in str(
        problem
    )
    assert dataset(masks="mask_1").find(clinic.parent).problems == ()
    (clinic / "images").rename(clinic / "pictures")
    (problem,) = dataset(masks="Mask_1").find(clinic.parent).problems
    assert "must hold its images in images, but it holds notes, pictures: write images=" in str(problem)


def test_a_rule_of_names_is_told_if_all_masks_follow_it(clinic):
    for path in sorted((clinic / "masks").iterdir()):
        path.rename(path.with_stem(f"m_{path.stem}_1"))
    (problem,) = dataset().find(clinic.parent).problems
    assert "there are the images a, b, c ... and the masks m_a_1, m_b_1, m_c_1 ...: write" in str(problem)
    assert "masks=masks/m_{id}_1." in str(problem)
    assert len(dataset(masks="masks/m_{id}_1").find(clinic.parent).entries) == 8


def test_images_without_a_mask_are_refused_or_left_out_and_counted(clinic, drawing, tmp_path):
    (clinic / "masks" / "b.tif").unlink()
    (clinic / "images" / "d.png").unlink()
    (clinic / "patients.csv").write_text("image,patient\n" + "".join(f"{i},{i}\n" for i in IDS))
    assert len(dataset().find(clinic.parent).problems) == 2
    opened = cached(dataset(missing="skip"), clinic.parent, 32, tmp_path / "cache")
    assert opened.ids == tuple("acefgh")
    assert left_out([opened]) == ["left out of the folders of folder_my_clinic: 2 unpaired files"]
    shutil.rmtree(clinic / "masks")
    assert dataset(missing="skip").find(clinic.parent).problems


@pytest.mark.parametrize(("height", "width"), [(1, 0), (0, -1), (-2, 2)])
def test_a_mask_that_is_off_by_a_pixel_is_refused_or_fitted_and_counted(height, width, clinic, drawing, tmp_path):
    off = max(abs(height), abs(width))
    mask = np.pad(drawing.truth(), ((0, 3), (0, 3)))[: drawing.height + height, : drawing.width + width]
    drawing.save(drawing.grey(mask), clinic / "masks" / "b.tif")
    with pytest.raises(DataError, match=f"a mask must have the size of its image.* set tolerate={off}"):
        cached(dataset(), clinic.parent, 32, tmp_path / "cache")
    opened = cached(dataset(tolerate=off), clinic.parent, 32, tmp_path / "cache")
    np.testing.assert_array_equal(opened.native(1).mask, drawing.truth())
    (line,) = left_out([opened])
    assert line == "1 of 8 masks of folder_my_clinic do not have the size of their images and were cut or padded: b"
    if off > 1:
        with pytest.raises(DataError, match="a mask must have the size"):
            cached(dataset(tolerate=1), clinic.parent, 32, tmp_path / "cache")


def test_two_folders_of_one_name_can_be_told_apart(tmp_path):
    one, other = Folder(path=str(tmp_path / "a" / "train")), Folder(path=str(tmp_path / "b" / "train"))
    with pytest.raises(DataError, match=r"'folder_train' is named twice: give one .* folder:path=PATH:label=NAME"):
        Transfer(sources=(one,), targets=(other,))
    protocol = Transfer(sources=(one,), targets=(replace(other, label="B"),))
    assert [each.name for each in protocol.targets] == ["folder_b"]
    with pytest.raises(OverlapError, match="share the folder"):
        Transfer(sources=(one,), targets=(replace(one, label="B"),))


@pytest.fixture
def parted(tmp_path, drawing):
    """Six images for training and two for the test, both counted from 1, and the latter's masks under one grader."""
    base = tmp_path / "root" / "Parted"
    for part, count in (("Training", 6), ("test", 2)):
        for number in range(1, count + 1):
            drawing.save(drawing.photograph(), base / part / "images" / f"{number}.png")
            drawing.save(drawing.grey(drawing.truth()), base / part / "masks" / f"{number}.tif")
    return base


def test_folders_of_parts_are_the_split(parted, tmp_path):
    (problem,) = Folder(path="Parted").find(parted.parent).problems
    assert "must hold its images in images, but it holds Training, test: write parts=folders if" in str(problem)
    one = parse_dataset("folder:path=Parted:parts=folders")
    opened = cached(one, parted.parent, 32, tmp_path / "cache")
    assert opened.ids == ("test/1", "test/2", *(f"train/{number}" for number in range(1, 7)))
    assert opened.splits[:2] == ("test", "test")
    assert set(opened.splits[2:]) == set(FOLDS)
    (parted / "Training").rename(parted / "TRAIN")
    assert cached(one, parted.parent, 32, tmp_path / "cache").splits == opened.splits
    (parted / "test/masks/2.tif").unlink()
    assert len(one.find(parted.parent).problems) == 1
    fewer = cached(replace(one, missing="skip"), parted.parent, 32, tmp_path / "cache")
    assert fewer.ids == ("test/1", *opened.ids[2:])
    assert fewer.splits == opened.splits[1:]


def test_parts_that_are_absent_or_twofold_are_refused(parted):
    one = Folder(path="Parted", parts="folders")
    (parted / "train").mkdir()
    with pytest.raises(DataError, match=r"one folder train or training, but it holds Training, test, train: keep one"):
        one.find(parted.parent)
    shutil.rmtree(parted / "train")
    shutil.rmtree(parted / "test/masks")
    (problem,) = one.find(parted.parent).problems
    assert "there are 2 images and no mask here" in str(problem)
    shutil.rmtree(parted / "test")
    with pytest.raises(DataError, match=r"one folder test or testing, but it holds Training: .* patients\.csv"):
        one.find(parted.parent)


def test_patients_of_parts_lie_in_one_of_them(parted):
    one = Folder(path="Parted", parts="folders")
    entries = one.find(parted.parent).entries

    def listed(*people, columns="image,patient"):
        lines = [f"{entry.id},{person}" for entry, person in zip(entries, people, strict=True)]
        (parted / "patients.csv").write_text("\n".join([columns, *lines]))
        return one.assignment(one.find(parted.parent).entries)

    splits = listed("a", "a", "b", "b", "c", "c", "d", "d")
    assert [splits[entry.id] == "test" for entry in entries] == [True] * 2 + [False] * 6
    assert splits["train/1"] == splits["train/2"] != splits["train/3"]
    with pytest.raises(DataError, match="a patient must lie in one part, but a have images in train and in test"):
        listed("a", "a", "a", "b", "c", "c", "d", "d")
    listed("a,test", "a,test", "b,0", "b,0", "c,1", "c,1", "d,2", "d,2", columns="image,patient,split")
    with pytest.raises(DataError, match=r"a split must be that of the folder, but that of test/1, test/2 is not"):
        listed("a,3", "a,3", "b,0", "b,0", "c,1", "c,1", "d,2", "d,2", columns="image,patient,split")
