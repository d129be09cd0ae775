"""Disc, cup and rim: contours become masks, and the disc contains the cup."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets.outlines import (
    Outline,
    coded,
    filled,
    inside,
    nested,
    read_codes,
    read_contour,
    read_polygons,
    structure,
)
from sam2lora.datasets.reading import paired
from sam2lora.errors import DataError

FILE = Path("cup.png")
SHAPE = (120, 160)


def circle(x: float, y: float, radius: float, points: int = 400) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def round_mask(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(rows - y, columns - x) < radius


@pytest.mark.parametrize("radius", [5, 12.3, 40])
@pytest.mark.parametrize("shift", [0, 0.25, 0.5])
def test_a_circle_is_filled_to_within_its_perimeter(radius, shift):
    mask = inside(circle(80 + shift, 60 + shift, radius), SHAPE)
    assert abs(mask.sum() - np.pi * radius**2) < np.pi * radius  # half the perimeter
    wrong = mask ^ round_mask(80 + shift, 60 + shift, radius)
    assert wrong.sum() <= max(4, 0.02 * mask.sum())  # four centres may lie on the line
    assert np.argwhere(mask).mean(0) == pytest.approx([60 + shift, 80 + shift], abs=0.2)


def test_the_centres_of_pixels_decide_and_the_line_counts():
    assert inside(np.array([[2.0, 3], [2, 6], [7, 6], [7, 3]]), SHAPE).sum() == 6 * 4
    mask = inside(np.array([[2.4, 3.4], [2.4, 6.4], [7.4, 6.4], [7.4, 3.4]]), SHAPE)
    assert np.argwhere(mask).min(0).tolist() == [4, 3]
    assert np.argwhere(mask).max(0).tolist() == [6, 7]


def test_opencv_agrees_but_for_the_boundary():
    """OpenCV fills the pixels that the line touches too: nothing else may differ."""
    contour = np.round(circle(80, 60, 30) + 0.3)
    drawn = np.zeros(SHAPE, np.uint8)
    cv2.fillPoly(drawn, [contour.astype(np.int32)], 1)
    line = np.zeros(SHAPE, np.uint8)
    cv2.polylines(line, [contour.astype(np.int32)], True, 1)
    ours = inside(contour, SHAPE)
    assert not ((ours != drawn.astype(bool)) & ~line.astype(bool)).any()


def test_direction_and_closing_do_not_matter():
    contour = circle(80, 60, 20)
    np.testing.assert_array_equal(inside(contour, SHAPE), inside(contour[::-1], SHAPE))
    np.testing.assert_array_equal(inside(contour, SHAPE), inside(np.vstack([contour, contour[:1]]), SHAPE))


def test_what_lies_beyond_the_image_is_cut_off():
    mask = inside(circle(0, 0, 20), SHAPE)
    assert abs(mask.sum() - np.pi * 100) < 40
    assert not inside(circle(500, 500, 20), SHAPE).any()


def test_several_contours_are_united_and_none_is_nothing():
    one, other = circle(40, 40, 10), circle(100, 60, 10)
    np.testing.assert_array_equal(filled([one, other], SHAPE), inside(one, SHAPE) | inside(other, SHAPE))
    assert not filled([], SHAPE).any()


def test_a_disc_contains_its_cup_and_the_rim_is_the_rest():
    disc, cup = round_mask(80, 60, 30), round_mask(90, 60, 21)  # one pixel beyond the disc
    assert (cup & ~disc).any()
    outline = nested(disc, cup, FILE)
    np.testing.assert_array_equal(outline.cup, cup)
    np.testing.assert_array_equal(outline.disc, disc | cup)
    masks = {target: structure([outline], target) for target in ("disc", "cup", "rim")}
    np.testing.assert_array_equal(masks["disc"], masks["cup"] | masks["rim"])
    assert not (masks["cup"] & masks["rim"]).any()


def test_a_cup_of_another_image_is_refused():
    with pytest.raises(DataError, match=r"cup.png: a cup must lie within its disc, but \d+% of it lies beside: check"):
        nested(round_mask(80, 60, 30), round_mask(40, 60, 15), FILE)
    with pytest.raises(DataError, match="not exchanged"):
        nested(round_mask(80, 60, 12), round_mask(80, 60, 30), FILE)
    assert not nested(round_mask(80, 60, 30), np.zeros(SHAPE, bool), FILE).cup.any()


@pytest.mark.parametrize("annotator", ["union", "intersection"])
def test_graders_are_combined_before_the_rim_is_taken(annotator):
    first = Outline(round_mask(80, 60, 30), round_mask(80, 60, 15))
    second = Outline(round_mask(82, 60, 34), round_mask(82, 60, 12))
    merge = np.logical_or if annotator == "union" else np.logical_and
    masks = {target: structure([first, second], target, annotator) for target in ("disc", "cup", "rim")}
    np.testing.assert_array_equal(masks["disc"], merge(first.disc, second.disc))
    np.testing.assert_array_equal(masks["cup"], merge(first.cup, second.cup))
    np.testing.assert_array_equal(masks["rim"], masks["disc"] & ~masks["cup"])
    assert (masks["disc"] | masks["cup"] == masks["disc"]).all()


@pytest.mark.parametrize("values", [{0: "cup", 128: "rim", 255: "rest"}, {2: "cup", 1: "rim", 0: "rest"}])
def test_codes_of_a_mask(values, tmp_path):
    meaning = {what: value for value, what in values.items()}
    codes = np.full(SHAPE, meaning["rest"], np.uint8)
    codes[round_mask(80, 60, 30)] = meaning["rim"]
    codes[round_mask(80, 60, 15)] = meaning["cup"]
    for name, image in (("a.bmp", Image.fromarray(codes)), ("b.png", Image.fromarray(np.dstack([codes] * 3)))):
        image.save(tmp_path / name)
        outline = coded(tmp_path / name, read_codes(tmp_path / name), values)
        np.testing.assert_array_equal(outline.disc, round_mask(80, 60, 30))
        np.testing.assert_array_equal(outline.cup, round_mask(80, 60, 15))


def test_other_codes_are_refused(tmp_path):
    codes = np.full(SHAPE, 255, np.uint8)
    codes[:3, :2] = [[0, 1], [128, 127], [7, 9]]
    with pytest.raises(DataError, match="0 for the cup, 128 for the rim, 255 for the rest, but it holds 1, 7"):
        coded(FILE, codes, {0: "cup", 128: "rim", 255: "rest"})
    with pytest.raises(DataError, match="and more"):
        coded(FILE, np.arange(256, dtype=np.uint8)[None], {0: "cup"})
    for mode in ("RGBA", "CMYK"):
        Image.new(mode, (4, 4), "red").save(tmp_path / "codes.tif")
        with pytest.raises(DataError, match=f"must be 8-bit grey or a palette image, but its mode is {mode}"):
            read_codes(tmp_path / "codes.tif")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "codes.tif")
    with pytest.raises(DataError, match="its mode is RGB"):
        read_codes(tmp_path / "codes.tif")


def test_contours_of_a_text_file(tmp_path):
    file = tmp_path / "contour.txt"
    file.write_text("1.5 2.25\n3e1\t4\n  5 6  \n")
    np.testing.assert_array_equal(read_contour(file), [[1.5, 2.25], [30, 4], [5, 6]])
    file.write_text("1.5 , 2.25\n30 , 4\n5,6\n")
    np.testing.assert_array_equal(read_contour(file, ","), [[1.5, 2.25], [30, 4], [5, 6]])


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n3 x\n", "one point on a line, but could not convert"),
        ("1 2\n3 4\n", r"three points or more, x and y each, but its shape is \(2, 2\)"),
        ("1 2 3\n3 4 5\n6 7 8", r"but its shape is \(3, 3\)"),
        ("1 2\nnan 4\n5 6", "three points or more"),
        ("", "three points or more"),
    ],
)
def test_a_broken_contour_is_refused(text, message, tmp_path):
    file = tmp_path / "contour.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_contour(file)
    assert str(error.value).startswith(f"{file}: ")
    with pytest.raises(DataError, match="not found"):
        read_contour(tmp_path / "none.txt")


def labelme(file: Path, *shapes: dict) -> Path:
    file.write_text(json.dumps({"shapes": shapes}))
    return file


def test_polygons_by_label(tmp_path):
    triangle = [[1, 2], [3, 4], [5, 7]]
    file = labelme(
        tmp_path / "a.json",
        {"label": "disc", "points": triangle, "shape_type": "polygon"},
        {"label": "cup", "points": triangle},
        {"label": "disc", "points": triangle},
        {"label": "discLoc", "points": [[1, 1]], "shape_type": "point"},
    )
    polygons = read_polygons(file)
    assert {label: len(contours) for label, contours in polygons.items()} == {"disc": 2, "cup": 1}
    np.testing.assert_array_equal(polygons["cup"][0], triangle)


def test_what_is_no_polygon_is_refused(tmp_path):
    file = labelme(tmp_path / "a.json", {"label": "OD", "points": [[1, 2], [3, 4]], "shape_type": "circle"})
    with pytest.raises(DataError, match="outlined by a polygon, but 'OD' is a circle"):
        read_polygons(file)
    with pytest.raises(DataError, match="three points or more"):
        read_polygons(labelme(file, {"label": "OD", "points": [[1, 2], [3, 4]]}))
    for text in ("{", "[]", '{"shapes": [{"points": []}]}', '{"shapes": 3}'):
        file.write_text(text)
        with pytest.raises(DataError, match="must be a labelme file"):
            read_polygons(file)


def test_another_size_is_refused(tmp_path):
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "codes.png")
    assert read_codes(tmp_path / "codes.png", SHAPE).shape == SHAPE
    with pytest.raises(DataError, match="the size of its image, 120x160, but it has 160x120"):
        read_codes(tmp_path / "codes.png", SHAPE[::-1])


def test_all_of_a_crop_is_seen_and_its_mask_is_a_part():
    image = np.full((*SHAPE, 3), 200, np.uint8)
    assert paired(image, round_mask(80, 60, 50), FILE, view="crop").fov.all()
    for mask, share in ((np.zeros(SHAPE, bool), 0), (np.ones(SHAPE, bool), 100)):
        with pytest.raises(DataError, match=f"less than all of the field of view, but it covers {share}%: check"):
            paired(image, mask, FILE, view="crop")
