"""Disc, cup and rim in every set that has them: codings, graders, contours, splits and broken copies."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy.io import savemat

from sam2lora.datasets import (
    DATASETS,
    G1020,
    DrionsDB,
    DrishtiGS1,
    Grape,
    Idrid,
    Origa,
    Papila,
    Refuge1,
    Refuge2,
    RimOneDL,
    RimOneR3,
    cached,
    with_target,
)
from sam2lora.datasets.layout import MissingFolderError
from sam2lora.errors import DataError, OverlapError
from sam2lora.protocols import Transfer

WITH_CUP = [one for one in DATASETS if one.target == "disc" and one.name not in ("idrid", "drions_db")]
GRADED = [RimOneR3(), Papila(), DrionsDB()]

with_cup = pytest.mark.parametrize("dataset", WITH_CUP, ids=lambda one: one.name)


def read(dataset, root):
    """The masks of a set by id."""
    found = dataset.find(root)
    assert found.problems == ()
    return {entry.id: dataset.read(entry).mask for entry in found.entries}


def one(dataset, root):
    return dataset.find(root).entries[0]


@with_cup
def test_the_disc_contains_the_cup_and_the_rim_is_the_rest(dataset, tree, drawing):
    root = tree(dataset.name)
    masks = {target: read(with_target(dataset, target), root) for target in ("disc", "cup", "rim")}
    assert masks["disc"].keys() == masks["cup"].keys() == masks["rim"].keys()
    for image, disc in masks["disc"].items():
        cup, rim = masks["cup"][image], masks["rim"][image]
        for target, mask in (("disc", disc), ("cup", cup), ("rim", rim)):
            np.testing.assert_array_equal(mask, drawing.truth(target))
        np.testing.assert_array_equal(disc, cup | rim)
        assert not (cup & rim).any()
        assert 0 < cup.sum() < disc.sum()


def test_sets_without_a_cup_have_the_disc_alone():
    for kind in (Idrid, DrionsDB):
        assert kind().target == "disc"
        with pytest.raises(ValidationError):
            kind(target="cup")


@with_cup
def test_targets_share_a_name_and_a_pool_and_no_cache(dataset, tree, tmp_path):
    root = tree(dataset.name)
    caches = [cached(with_target(dataset, target), root, 32, tmp_path / "cache") for target in ("disc", "cup", "rim")]
    assert len({cache.digest for cache in caches}) == len({cache.folder for cache in caches}) == 3
    assert len({cache.dataset.name for cache in caches}) == len({cache.dataset.overlaps for cache in caches}) == 1
    disc, cup, rim = (cache.native(0).mask for cache in caches)
    np.testing.assert_array_equal(disc, cup | rim)


@pytest.mark.parametrize(
    ("source", "target"),
    [(Refuge1(), Refuge2()), (RimOneR3(), RimOneDL()), (DrishtiGS1(), DrishtiGS1(copy="1024"))],
    ids=["refuge", "rim_one", "drishti"],
)
def test_sets_of_the_same_patients_never_meet(source, target):
    for structure in ("disc", "cup"):
        with pytest.raises(OverlapError, match="share"):
            Transfer(sources=(with_target(source, structure),), targets=(with_target(target, structure),))


@pytest.mark.parametrize("dataset", GRADED, ids=lambda one: one.name)
@pytest.mark.parametrize(("annotator", "grader"), [("first", 1), ("second", 2), ("union", 1), ("intersection", 2)])
def test_graders(dataset, annotator, grader, tree, drawing):
    """The second grader sees less of disc and cup than the first, so union and intersection are one of the two."""
    root = tree(dataset.name)
    for target in ("disc", "cup", "rim") if dataset.name != "drions_db" else ("disc",):
        for mask in read(with_target(replace(dataset, annotator=annotator), target), root).values():
            np.testing.assert_array_equal(mask, drawing.truth(target, grader))


def test_the_average_of_rim_one_is_the_owners(tree, drawing):
    for mask in read(RimOneR3(annotator="average"), tree("rim_one_r3")).values():
        np.testing.assert_array_equal(mask, drawing.truth("disc", 2))


@pytest.mark.parametrize("annotator", ["union", "majority", "intersection"])
def test_votes_for_disc_and_cup_of_drishti(annotator, tree):
    root = tree("drishti_gs1")
    disc, cup, rim = (read(DrishtiGS1(target=t, annotator=annotator), root)["001"] for t in ("disc", "cup", "rim"))
    np.testing.assert_array_equal(disc, cup | rim)
    soft = np.asarray(Image.open(one(DrishtiGS1(), root).masks[1]))
    np.testing.assert_array_equal(cup, soft >= {"union": 64, "majority": 128, "intersection": 255}[annotator])


@pytest.mark.parametrize("kind", [Refuge1, Refuge2])
def test_another_coding_of_refuge_is_refused(kind, tree, drawing):
    dataset = kind(target="cup")
    entry = one(dataset, tree(dataset.name))
    drawing.save(drawing.codes(2, 1, 0), entry.masks[0])
    with pytest.raises(DataError, match="0 for the cup, 128 for the rim, 255 for the rest, but it holds 1, 2"):
        dataset.read(entry)
    drawing.save(drawing.codes(255, 128, 0), entry.masks[0])  # the polarity of some copies: the rest would be the cup
    for target in ("disc", "cup"):
        with pytest.raises(DataError, match="polarity"):
            kind(target=target).read(entry)
    drawing.save(drawing.codes(0, 128, 255).resize((30, 30)), entry.masks[0])
    with pytest.raises(DataError, match="the size of its image, 72x60, but it has 30x30"):
        dataset.read(entry)


@pytest.mark.parametrize("outlines", ["mat", "png"])
@pytest.mark.parametrize("beyond", [0, 1, 2, 7])
def test_a_wider_mask_of_origa_is_cut_to_its_middle(outlines, beyond, tree, drawing):
    root, dataset = tree("origa"), Origa(outlines=outlines)
    entry = one(dataset, root)
    left = beyond // 2
    wide = np.pad(np.asarray(drawing.codes(2, 1, 0)), ((0, 0), (left, beyond - left)))
    _write_codes(entry.masks[0], wide)
    np.testing.assert_array_equal(dataset.read(entry).mask, drawing.truth("disc"))
    _write_codes(entry.masks[0], wide[:, 2 * beyond + 1 :])
    with pytest.raises(DataError, match="the height of its image and its width or more, 72x60, but it has"):
        dataset.read(entry)
    wide = np.pad(wide, ((0, 0), (4, 4)))
    wide[30, 0] = 1
    _write_codes(entry.masks[0], wide)
    with pytest.raises(DataError, match="beyond its image must be empty, but the disc reaches there"):
        dataset.read(entry)


def _write_codes(file, codes):
    if file.suffix == ".mat":
        savemat(file, {"mask": codes})
    else:
        Image.fromarray(codes).save(file)


def test_a_broken_annotation_of_origa(tree):
    entry = one(Origa(), tree("origa"))
    for broken in (lambda: entry.masks[0].write_bytes(b"no file"), lambda: savemat(entry.masks[0], {"other": 1})):
        broken()
        with pytest.raises(DataError, match="must be a MATLAB file with the matrix 'mask'"):
            Origa().read(entry)
    savemat(entry.masks[0], {"mask": np.zeros((2, 2, 2), np.uint8)})
    with pytest.raises(DataError, match="'mask' must be a matrix"):
        Origa().read(entry)


def test_sets_a_and_b_of_origa(tree):
    root = tree("origa")
    entries = Origa().find(root).entries
    assert [entry.split for entry in entries] == ["development", "test", "development"]
    table = Origa().assignment(entries)
    assert table["002"] == "test"
    assert {table["001"], table["003"]} == {"0", "1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "must be listed, but there is no such file"),
        ("Eye,Filename\nOD,001.jpg\n", "must have the columns Filename and Set, the latter A or B, but it has Eye"),
        ("", "but it has none"),
        ("Filename,Set\n001.jpg,C\n", "but there is C"),
        ("Filename,Set\n001.jpg,A\n002.jpg,B\n", "003.jpg: every image must be in OrigaList.csv, but it is not"),
    ],
)
def test_a_broken_list_of_origa(text, said, tree):
    root = tree("origa")
    path = root / "ORIGA" / "OrigaList.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)
    (problem,) = Origa().find(root).problems
    assert said in str(problem)
    assert 'ask for split="dealt"' in str(problem)
    dealt = Origa(split="dealt")
    assert len(read(dealt, root)) == 3
    assert set(dealt.assignment(dealt.find(root).entries)) == {"001", "002", "003"}


@pytest.mark.parametrize("outlines", ["json", "png"])
def test_images_of_g1020_without_a_cup(outlines, tree, drawing):
    root, dataset = tree("g1020"), G1020(outlines=outlines)
    file = dataset.find(root).entries[1].masks[0]
    if outlines == "json":
        drawing.polygons(file, disc="disc")
    else:
        drawing.save(drawing.grey(drawing.truth("disc"), white=1), file)
    assert read(dataset, root).keys() == {"image_0", "image_1", "image_12"}  # the disc needs no cup
    for target in ("cup", "rim"):
        (problem,) = replace(dataset, target=target).find(root).problems
        assert "every image needs a cup, but 1 of 3 have none: ask for" in str(problem)
        left = read(replace(dataset, target=target, cupless="leave_out"), root)
        assert left.keys() == {"image_0", "image_12"}
        empty = read(replace(dataset, target=target, cupless="empty"), root)
        expected = drawing.truth("disc") if target == "rim" else np.zeros_like(drawing.truth())
        np.testing.assert_array_equal(empty["image_1"], expected)
        np.testing.assert_array_equal(empty["image_0"], drawing.truth(target))


def test_a_disc_of_g1020_must_be_outlined(tree, drawing):
    entry = one(G1020(), tree("g1020"))
    drawing.polygons(entry.masks[0], cup="cup")
    with pytest.raises(DataError, match="a disc must be outlined, but the file outlines cup"):
        G1020().read(entry)


@pytest.mark.parametrize("dataset", [G1020(), Grape()], ids=lambda one: one.name)
def test_a_cup_beside_its_disc_is_refused(dataset, tree):
    entry = one(dataset, tree(dataset.name))
    content = json.loads(entry.masks[0].read_text())
    content["shapes"][1]["points"] = [[x - 15, y] for x, y in content["shapes"][1]["points"]]
    entry.masks[0].write_text(json.dumps(content))
    with pytest.raises(DataError, match="a cup must lie within its disc, but 100% of it lies beside"):
        dataset.read(entry)


def test_a_cup_that_strays_widens_the_disc(tree, drawing):
    root = tree("papila")
    file = next(path for path in one(Papila(), root).masks if "cup" in path.name)
    points = np.loadtxt(file)
    np.savetxt(file, np.vstack([points[:360], [[33.2, 30.0]], points[360:]]))  # a spike, 0.8 pixels beyond the disc
    disc, cup, rim = (read(Papila(target=target), root)["RET002OD"] for target in ("disc", "cup", "rim"))
    np.testing.assert_array_equal(disc, cup | rim)
    assert (disc & ~drawing.truth("disc")).sum() <= 1


def test_outlines_of_grape_lie_in_the_roi(tree):
    dataset = Grape()
    entry = one(dataset, tree("grape"))
    content = json.loads(entry.masks[0].read_text())
    for change in ({"imageHeight": 120, "imageWidth": 144}, {"shapes": _moved(content, 60)}):
        entry.masks[0].write_text(json.dumps(content | change))
        with pytest.raises(DataError, match="must lie in the frame of the ROI image, 72x60, but OD reaches"):
            dataset.read(entry)
    entry.masks[0].write_text(json.dumps({"shapes": content["shapes"]}))
    assert dataset.read(entry).mask.any()
    entry.masks[0].write_text(json.dumps({"shapes": content["shapes"][:1]}))
    with pytest.raises(DataError, match="OD and OC must be outlined, but OC is not"):
        dataset.read(entry)


def _moved(content, by):
    return [shape | {"points": [[x + by, y] for x, y in shape["points"]]} for shape in content["shapes"]]


def test_patients_of_several_images_stay_together(tree):
    assert [entry.patient for entry in Papila().find(tree("papila")).entries] == ["RET002", "RET002", "RET004"]
    assert [entry.patient for entry in Grape().find(tree("grape")).entries] == ["1", "1", "20"]


def test_the_archive_of_papila_may_lie_in_a_folder(tree):
    root = tree("papila")
    (archive,) = root.iterdir()
    (root / "PAPILA").mkdir()
    archive.rename(root / "PAPILA" / archive.name)
    assert len(read(Papila(), root)) == 3
    shutil.copytree(root / "PAPILA" / archive.name, root / archive.name)
    with pytest.raises(DataError, match="must lie in one folder"):
        Papila().find(root)


def test_rim_one_r3_is_the_left_half(tree, drawing):
    root = tree("rim_one_r3")
    entry = one(RimOneR3(), root)
    stereo = np.asarray(Image.open(entry.image))
    pair = RimOneR3().read(entry)
    np.testing.assert_array_equal(pair.image, stereo[:, : drawing.width])
    drawing.save(Image.fromarray(stereo[:, : drawing.height]), entry.image)
    with pytest.raises(DataError, match="the two views must lie side by side, but it has 60x60"):
        RimOneR3().read(entry)


def test_partitions_of_rim_one_dl(tree):
    root = tree("rim_one_dl")
    parts = {}
    for split in ("randomly", "by_hospital"):
        dataset = RimOneDL(split=split)
        table = dataset.assignment(dataset.find(root).entries)
        parts[split] = {image for image, part in table.items() if part == "test"}
    assert parts == {"randomly": {"r3_N-10-R"}, "by_hospital": {"r1_Im001"}}


def test_rim_one_dl_may_lie_unpacked_in_the_root(tree):
    root = tree("rim_one_dl")
    for path in list((root / "RIM-ONE DL").iterdir()):
        path.rename(root / path.name)
    (root / "RIM-ONE DL").rmdir()
    assert len(read(RimOneDL(), root)) == 3


def test_parts_of_refuge2(tree):
    entries = Refuge2().find(tree("refuge2")).entries
    table = Refuge2().assignment(entries)
    assert {image for image, split in table.items() if split == "test"} == {"test/T0001", "test/T0002"}
    assert len({split for split in table.values() if split != "test"}) == 3


def test_a_part_of_refuge1_may_be_absent_and_its_masks_may_not(tree):
    root = tree("refuge1")
    shutil.rmtree(root / "REFUGE" / "REFUGE-Test-GT")
    (problem,) = Refuge1().find(root).problems
    assert str(root / "REFUGE" / "REFUGE-Test-GT") in str(problem)
    assert "there are 2 images and no mask here" in str(problem)
    shutil.rmtree(root / "REFUGE" / "Test400")
    assert read(Refuge1(), root).keys() == {"V0001", "g0001", "n0360"}


def test_a_narrower_image_of_drions_is_filled_in_its_own_size(tree, drawing):
    root = tree("drions_db")
    image = root / "DRIONS-DB" / "images" / "image_101.jpg"
    drawing.save(drawing.photograph().crop((0, 0, drawing.width - 1, drawing.height)), image, quality=95)
    masks = read(DrionsDB(), root)
    assert masks["101"].shape == (drawing.height, drawing.width - 1)
    np.testing.assert_array_equal(masks["101"], masks["001"][:, :-1])


@pytest.mark.parametrize("dataset", [*WITH_CUP, DrionsDB()], ids=lambda one: one.name)
def test_a_missing_half(dataset, tree):
    root = tree(dataset.name)
    for entry in dataset.find(root).entries:
        for file in entry.masks:
            file.unlink(missing_ok=True)
    texts = [str(problem) for problem in dataset.find(root).problems]
    assert texts
    assert all("every image needs its mask" in text for text in texts)
    shutil.rmtree(next(root.iterdir()))
    with pytest.raises(MissingFolderError):
        dataset.find(root)
