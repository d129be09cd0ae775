"""What lies in a folder: which files count, how they are named, and what is left out and said to be."""

from __future__ import annotations

import errno
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from sam2lora.datasets import Drive, Folder, Refuge1, cached, left_out, listing
from sam2lora.datasets.__main__ import main
from sam2lora.datasets.layout import by_stem, merged
from sam2lora.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "für Ärzte") for form in ("NFC", "NFD"))


@pytest.fixture
def clinic(tmp_path, drawing):
    """Six pairs in ``root/clinic``."""
    base = tmp_path / "root" / "clinic"
    for identity in "abcdef":
        drawing.save(drawing.photograph(), base / "images" / f"{identity}.png")
        drawing.save(drawing.grey(drawing.truth()), base / "masks" / f"{identity}.png")
    return base


def found(clinic, **options):
    return Folder(path=clinic.name, **options).find(clinic.parent)


def opened(clinic, **options):
    return cached(Folder(path=clinic.name, **options), clinic.parent, 32, clinic.parent.parent / "cache")


def said(clinic, capsys):
    main([str(clinic.parent), "--set", f"folder:path={clinic.name}"])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("jpg", "JPEG"), ("JPEG", "JPEG"), ("jpe", "JPEG"), ("jfif", "JPEG"), ("Png", "PNG"), ("TIF", "TIFF"),
        ("tiff", "TIFF"), ("bmp", "BMP"), ("dib", "BMP"), ("ppm", "PPM"), ("pnm", "PPM"), ("gif", "GIF"),
        ("webp", "WEBP"), ("jp2", "JPEG2000"),
    ],
)  # fmt: skip
def test_every_suffix_that_can_be_decoded_counts_in_either_case(ending, kind, clinic, drawing):
    path = clinic / "images" / f"g.{ending}"
    drawing.save(drawing.photograph(), path, format=kind)
    drawing.save(drawing.grey(drawing.truth()), clinic / "masks" / "g.png")
    entry = found(clinic).entries[-1]
    assert (entry.id, entry.image) == ("g", path)


def test_what_is_left_out_is_counted_and_said(clinic, drawing, tmp_path, capsys):
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "notes.txt", "README"):
        (clinic / "images" / name).write_bytes(b"\0\5\x16\7")
    drawing.save(drawing.photograph(), clinic / "images" / "more" / "g.png")
    os.mkfifo(clinic / "masks" / "pipe.png")
    (clinic / "masks" / "old.png").symlink_to(clinic / "images" / "more")
    expected = "2 folders, 2 hidden files, 1 .db file, 1 .txt file, 1 nameless file, 1 special file"
    assert listing.summary(found(clinic).left_out) == expected
    assert left_out([opened(clinic)]) == [f"left out of the folders of folder_clinic: {expected}"]
    assert f"folder_clinic: {expected}" in said(clinic, capsys)
    assert [entry.id for entry in found(clinic).entries] == list("abcdef")


def test_nothing_is_said_where_nothing_is_left_out(clinic, capsys):
    assert found(clinic).left_out == ()
    assert left_out([opened(clinic)]) == []
    assert "Left out" not in said(clinic, capsys)


def test_files_of_a_published_set_that_it_does_not_ask_for_are_counted_too(tree, drawing):
    root = tree("drive")
    drawing.save(drawing.photograph(), root / "DRIVE" / "test" / "images" / "holiday.jpg")
    assert listing.summary(Drive().find(root).left_out) == "1 .jpg file"


def test_every_published_set_says_what_lies_beside_its_files(dataset, tree):
    """Whatever a set makes of what was gathered, it keeps what was left out."""
    root = tree(dataset.name)
    images = {entry.image.parent for entry in dataset.find(root).entries}
    for place in images:
        (place / "notes.doc").write_bytes(b"x")
    kinds = [one.kind for one in dataset.find(root).left_out]
    assert kinds.count(".doc") == len(images)


def test_names_that_read_alike_are_joined(clinic, drawing):
    for form, other in ((NFC, NFD), (NFD + "2", NFC + "2")):
        drawing.save(drawing.photograph(), clinic / "images" / f"{form}.png")
        drawing.save(drawing.grey(drawing.truth()), clinic / "masks" / f"{other}.png")
    entries = found(clinic).entries
    assert found(clinic).problems == ()
    assert [entry.id for entry in entries[-2:]] == [NFC, NFC + "2"]


def test_two_files_whose_names_read_alike_are_refused(clinic, drawing):
    for form in (NFC, NFD):
        drawing.save(drawing.photograph(), clinic / "images" / f"{form}.png")
    with pytest.raises(DataError, match=r"an image must be one file, but there is .* as well: keep one of them"):
        found(clinic)


def test_patients_and_images_of_a_listing_are_joined_by_how_they_read(clinic, drawing):
    drawing.save(drawing.photograph(), clinic / "images" / f"{NFD}.png")
    drawing.save(drawing.grey(drawing.truth()), clinic / "masks" / f"{NFD}.png")
    people = ["p", "p", "q", "q", NFC, "r", NFD]
    lines = [f"{i},{p}" for i, p in zip([*"abcdef", NFC], people, strict=True)]
    (clinic / "patients.csv").write_text("\n".join(["image,patient", *lines]))
    patients = {entry.id: entry.patient for entry in found(clinic).entries}
    assert patients[NFC] == patients["e"] == NFC


def test_a_name_that_is_no_text_is_refused(clinic):
    (Path(os.fsdecode(os.fsencode(clinic / "images") + b"/f\xfcr.png"))).write_bytes(b"")
    with pytest.raises(DataError, match=r"f\\xfcr\.png: a file name must be UTF-8, but it is not: rename it") as error:
        found(clinic)
    str(error.value).encode()


def test_a_name_that_is_no_text_and_no_image_is_left_out(clinic):
    (Path(os.fsdecode(os.fsencode(clinic / "images") + b"/f\xfcr.\xfcxt"))).write_bytes(b"")
    assert listing.summary(found(clinic).left_out) == r"1 .\xfcxt file"


def test_a_link_to_a_file_and_to_a_folder_is_followed(clinic, tmp_path):
    (clinic / "images" / "c.png").rename(tmp_path / "object")
    (clinic / "images" / "c.png").symlink_to(tmp_path / "object")
    (clinic / "masks").rename(tmp_path / "elsewhere")
    (clinic / "masks").symlink_to(tmp_path / "elsewhere")
    assert len(opened(clinic)) == 6


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_link_to_nothing_is_refused_by_name_or_skipped_and_counted(part, clinic, capsys):
    file = clinic / part / "d.png"
    file.unlink()
    file.symlink_to("../.git/annex/objects/x9/25/MD5E-s152998")
    message = r"d\.png: a link must lead somewhere, but it is a link to \.\./\.git/annex/.*, which is not there: fetch"
    with pytest.raises(DataError, match=message):
        opened(clinic)
    assert "which is not there" in said(clinic, capsys)
    one = opened(clinic, unreadable="skip")
    assert one.ids == tuple("abcef")
    (text,) = one.skipped
    assert "which is not there" in text
    file.unlink()
    file.write_bytes((clinic / part / "a.png").read_bytes())
    assert opened(clinic, unreadable="skip").ids == tuple("abcdef"), "fetched later, it is there"


def test_a_link_to_itself_is_refused(clinic):
    (clinic / "images" / "d.png").unlink()
    (clinic / "images" / "d.png").symlink_to("d.png")
    with pytest.raises(DataError, match=r"d\.png: a"):
        opened(clinic)


def test_a_folder_that_is_a_link_to_nothing_is_refused(clinic, tree):
    (clinic / "masks").rename(clinic / "other")
    (clinic / "masks").symlink_to("/mnt/gone")
    with pytest.raises(DataError, match=r"masks: a link must lead somewhere, but it is a link to /mnt/gone"):
        found(clinic)
    (clinic.parent / "DRIVE").symlink_to("/mnt/gone")
    with pytest.raises(DataError, match=r"DRIVE: a link must lead somewhere"):
        Drive().find(clinic.parent)


@pytest.mark.parametrize("name", ["fov", "patients.csv"])
def test_what_is_optional_is_not_taken_for_absent_when_it_is_a_link_to_nothing(name, clinic):
    """Otherwise every image would be a patient, and fields of view would be computed, without a word."""
    (clinic / name).symlink_to("gone")
    with pytest.raises(DataError, match=rf"{name}: a link must lead somewhere"):
        found(clinic)


def test_what_is_optional_is_found_in_either_case_and_must_be_one(clinic, drawing):
    for identity in "abcdef":
        drawing.save(drawing.grey(drawing.lit()), clinic / "FOV" / f"{identity}.png")
    (clinic / "Patients.CSV").write_text("image,patient\n" + "".join(f"{i},p\n" for i in "abcdef"))
    entry = found(clinic).entries[0]
    assert (entry.fov, entry.patient) == (clinic / "FOV" / "a.png", "p")
    assert found(clinic).left_out == ()
    (clinic / "patients.csv").write_text("image,patient\n")
    with pytest.raises(
        DataError, match=r"there must be one patients\.csv, but there are Patients\.CSV and patients\.csv"
    ):
        found(clinic)


def test_what_lies_beside_the_parts_of_a_folder_is_counted(clinic):
    (clinic / "patients.xlsx").write_bytes(b"x")
    (clinic / "Images2").mkdir()
    assert listing.summary(found(clinic).left_out) == "1 .xlsx file, 1 folder"


def test_a_listing_that_may_not_be_read_is_refused(clinic, monkeypatch):
    (clinic / "patients.csv").write_text("image,patient\n")

    def closed(path, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", closed)
    with pytest.raises(
        DataError, match=r"patients\.csv: a listing must be a readable CSV, but Permission denied: write"
    ):
        found(clinic)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_listed_is_refused(number, clinic, monkeypatch, capsys):
    true = os.listdir

    def closed(path="."):
        if Path(path).name == "masks":
            raise OSError(number, os.strerror(number), str(path))
        return true(path)

    monkeypatch.setattr(os, "listdir", closed)
    for skip in ("refuse", "skip"):
        with pytest.raises(DataError, match=rf"masks: a folder must be readable, but {os.strerror(number)}: change"):
            opened(clinic, unreadable=skip)
    assert "masks: a folder must be readable" in said(clinic, capsys)


def test_a_file_that_may_not_be_read_is_refused_or_skipped_and_read_once_it_may(clinic, monkeypatch):
    file, true = clinic / "images" / "d.png", Path.open
    with monkeypatch.context() as patch:

        def closed(path, *rest, **options):
            if path == file:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return true(path, *rest, **options)

        patch.setattr(Path, "open", closed)
        patch.setattr(os, "access", lambda path, mode: path != file)
        with pytest.raises(DataError, match=r"d\.png: a file must be readable, but Permission denied: change its perm"):
            opened(clinic)
        assert opened(clinic, unreadable="skip").ids == tuple("abcef")
    assert opened(clinic, unreadable="skip").ids == tuple("abcdef")


def test_a_closed_folder_of_something_else_does_not_end_the_overview(clinic, monkeypatch, capsys):
    (clinic.parent / "private").mkdir()
    true = Path.is_dir

    def closed(path):
        if path.parent.name == "private":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return true(path)

    monkeypatch.setattr(Path, "is_dir", closed)
    main([str(clinic.parent)])
    assert "clinic: look at it with" in capsys.readouterr().out


def test_two_images_whose_names_differ_in_case_alone_are_two(clinic, drawing):
    for part, image in (("images", drawing.photograph()), ("masks", drawing.grey(drawing.truth()))):
        drawing.save(image, clinic / part / "A.png")
    assert [entry.id for entry in found(clinic).entries] == list("Aabcdef")


def test_one_image_in_two_suffixes_is_refused(clinic, drawing):
    drawing.save(drawing.photograph(), clinic / "images" / "a.JPG", format="jpeg")
    with pytest.raises(DataError, match=r"an image must be one file, but there is a\.JPG as well"):
        found(clinic)


def test_one_image_in_two_folders_is_refused(tree):
    root = tree("refuge1")
    again = root / "REFUGE" / "Training400" / "Non-Glaucoma" / "g0001.jpg"
    again.write_bytes((again.parents[1] / "Glaucoma" / "g0001.jpg").read_bytes())
    with pytest.raises(DataError, match=r"an image must be one file, but there is /.*/Glaucoma/g0001\.jpg as well"):
        Refuge1().find(root)


def test_the_order_of_a_file_system_has_no_part_in_it(clinic, monkeypatch):
    first = found(clinic)
    true = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(true(path), reverse=True))
    assert found(clinic) == first


def test_a_stem_shorter_than_what_is_cut_off_is_passed_over(tmp_path):
    """``prefix`` and ``suffix`` must not overlap: 'x_' is no image between 'x_' and '_'."""
    for name in ("x_.png", "x_1_.png"):
        (tmp_path / name).write_bytes(b"")
    assert list(by_stem(tmp_path, prefix="x_", suffix="_")) == ["1"]


def test_nothing_merged_is_nothing():
    assert merged() == merged({}, {}) == {}


def test_masks_as_webp_and_jpeg_2000_are_read(clinic, drawing):
    for ending, options in (("webp", {"lossless": True}), ("jp2", {"irreversible": False})):
        (clinic / "masks" / "a.png").unlink(missing_ok=True)
        path = drawing.save(drawing.grey(drawing.truth()), clinic / "masks" / f"a.{ending}", **options)
        pair = Folder(path=clinic.name).read(found(clinic).entries[0])
        np.testing.assert_array_equal(pair.mask, drawing.truth())
        path.unlink()
