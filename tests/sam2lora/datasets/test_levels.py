"""Which values of a mask are the structure: what compression and interpolation may do to a mask, and labels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam2lora.datasets import Folder, cached
from sam2lora.datasets.__main__ import main
from sam2lora.datasets.levels import Values, structure_of
from sam2lora.errors import DataError

BLACK_AND_WHITE = "a mask must be black and white, but "
AV = {"background": (0, 0, 0), "artery": (255, 0, 0), "vein": (0, 0, 255), "crossing": (0, 255, 0)}


def branches(width: int, seed: int, size: int = 256) -> np.ndarray:
    """Winding lines of ``width`` pixels."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    for _ in range(9):
        x, y, angle = size * 0.6, size * 0.5, rng.uniform(0, 2 * np.pi)
        for _ in range(18):
            to = x + 7 * np.cos(angle), y + 7 * np.sin(angle)
            pen.line([x, y, *to], fill=255, width=width)
            (x, y), angle = to, angle + rng.normal(0, 0.4)
    return np.asarray(canvas) > 0


def rings(size: int = 200) -> np.ndarray:
    """2 for a cup, 1 for its rim, 0 for the rest."""
    rows, columns = np.mgrid[:size, :size]
    distance = np.hypot(rows - size / 2, columns - 0.6 * size)
    return (distance < 40).astype(np.uint8) + (distance < 20)


def vessels(size: int = 256) -> np.ndarray:
    """3 where a vein crosses an artery, 2 for veins, 1 for arteries, 0 for the rest."""
    return branches(3, 1, size) + np.uint8(2) * branches(3, 2, size)


def stored(image: Image.Image, kind: str, **options: object) -> Image.Image:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    opened = Image.open(io.BytesIO(raw.getvalue()))
    opened.load()
    return opened


def read(image, coding="light"):
    return structure_of("mask", image, coding)


def dice(left, right):
    return 2 * (left & right).sum() / (left.sum() + right.sum())


@pytest.mark.parametrize("quality", [30, 40, 50, 60, 70, 80, 90, 95, 100])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("polarity", ["light", "dark"])
def test_a_compressed_mask_is_read_as_it_was(quality, width, polarity):
    """Grey and colour, chroma at half size, thin lines with ringing; and the noise written to a lossless file."""
    truth = branches(width, seed=quality)
    if polarity == "dark":
        truth = ~truth
    grey = Image.fromarray(truth.astype(np.uint8) * 255)
    for image, kind, options in (
        (grey, "JPEG", {}),
        (grey.convert("RGB"), "JPEG", {"subsampling": 2}),
        (grey.convert("RGB"), "WEBP", {}),
        (grey, "TIFF", {"compression": "jpeg"}),
    ):
        noisy = stored(image, kind, quality=quality, **options)
        assert dice(read(noisy), truth) > 0.999
        assert dice(read(stored(noisy.convert("L"), "PNG")), truth) > 0.999


@pytest.mark.parametrize("blur", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
@pytest.mark.parametrize("times", [0.5, 0.75, 1.5, 2, 3, 4])
def test_edges_of_interpolation_are_no_third_level(blur, times):
    """Vessels are wide enough to stay light; the structure is that of the mask before, up to its edge."""
    truth = branches(7, seed=3)
    resized = Image.fromarray(truth.astype(np.uint8) * 255).resize((int(256 * times),) * 2, blur)
    assert dice(read(stored(resized, "PNG")), np.asarray(resized) > 127) == 1
    assert dice(read(stored(resized, "JPEG", quality=75)), np.asarray(resized) > 127) > 0.97


def test_thin_vessels_that_went_grey_are_refused():
    """What half of them is would be a guess: the threshold would cut them into pieces."""
    shrunk = Image.fromarray(branches(1, seed=4).astype(np.uint8) * 255).resize((128, 128), Image.Resampling.BILINEAR)
    with pytest.raises(DataError, match=f"{BLACK_AND_WHITE}.* are neither and lie on no edge.* without interpolation"):
        read(stored(shrunk, "PNG"))


@pytest.mark.parametrize(
    ("codes", "levels"),
    [
        (rings, (0, 128, 255)),
        (rings, (0, 255, 128)),
        (rings, (255, 128, 0)),
        (rings, (0, 85, 170)),
        (rings, (0, 127, 127)),
        (vessels, (0, 85, 170, 255)),
        (vessels, (0, 128, 255, 255)),
        (vessels, (0, 100, 200, 255)),
    ],
)
def test_a_third_level_is_refused_whether_it_was_compressed_or_not(codes, levels):
    image = Image.fromarray(np.array(levels, np.uint8)[codes()])
    with pytest.raises(DataError, match=BLACK_AND_WHITE + "it has the values 0, |are neither") as error:
        read(stored(image, "PNG"))
    assert "recode it: 0 for the background and 255 for the structure, or say which are the stru" in str(error.value)
    for quality in (30, 60, 95, 100):
        for kind in ("JPEG", "WEBP"):
            with pytest.raises(DataError, match=BLACK_AND_WHITE + r"\d+ of its pixels, about \d+ in value"):
                read(stored(image.convert("RGB"), kind, quality=quality))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0, 1, 1), "it has the values 0, 1"),
        ((0, 1, 2), "it has the values 0, 1, 2"),
        ((0, 0, 1), "it has the values 0, 1"),
        ((0, 1, 255), "it has the values 0, 1, 255"),
        ((0, 60, 60), "it has the values 0, 60"),
        ((0, 200, 255), "it has the values 0, 200, 255"),
    ],
)
def test_labels_that_would_pass_for_black_are_refused(values, text):
    image = Image.fromarray(np.array(values, np.uint8)[rings()])
    with pytest.raises(DataError, match=BLACK_AND_WHITE + text):
        read(stored(image, "PNG"))


def test_codes_of_zero_and_one_as_a_jpeg_are_not_an_empty_mask():
    for quality in (90, 95, 100):
        with pytest.raises(DataError, match=f"{BLACK_AND_WHITE}it has the values 0, 1.*, in a lossless file"):
            read(stored(Image.fromarray((rings() > 0).astype(np.uint8)), "JPEG", quality=quality))
    for kind in ("JPEG", "PNG", "WEBP"):
        assert not read(stored(Image.new("RGB", (64, 64)), kind)).any()


def test_many_levels_are_refused():
    """A soft map: shades that are as wide as they please."""
    shades = np.repeat(np.arange(0, 256, 17, dtype=np.uint8), 4)[:, None] * np.ones((1, 64), np.uint8)
    with pytest.raises(DataError, match=f"{BLACK_AND_WHITE}.* of its pixels, about 127 in value, are neither"):
        read(stored(Image.fromarray(shades), "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_colours_are_refused_and_not_taken_by_their_luminance(kind):
    """A green crossing is lighter than 127, a red artery darker."""
    image = Image.fromarray(np.array(list(AV.values()), np.uint8)[vessels()])
    with pytest.raises(DataError, match=BLACK_AND_WHITE) as error:
        read(stored(image, kind))
    if kind == "PNG":
        assert "it has the colours 000000, 0000ff, 00ff00, ff0000: recode it" in str(error.value)
        assert "values=ff0000+00ff00" in str(error.value)
    else:
        assert "of it are coloured" in str(error.value)


@pytest.mark.parametrize(
    ("values", "meant"), [("1", (1,)), ("1+3", (1, 3)), ("2+3", (2, 3)), ("1+2+3", (1, 2, 3)), ("7", ())]
)
def test_values_by_level_and_by_index(values, meant):
    """Grey levels, indices of a palette of any colours, and a grey mask that was saved as RGB."""
    codes = vessels()
    palette = Image.fromarray(codes, "P")
    palette.putpalette([value for colour in AV.values() for value in colour])
    for image in (Image.fromarray(codes), palette, Image.fromarray(codes).convert("RGB")):
        for kind in ("PNG", "TIFF"):
            np.testing.assert_array_equal(read(stored(image, kind), Values.parse(values)), np.isin(codes, meant))


def test_values_by_colour():
    codes = vessels()
    image = Image.fromarray(np.array(list(AV.values()), np.uint8)[codes])
    for one in (image, image.convert("RGBA"), image.quantize(8)):
        arteries = read(stored(one, "PNG"), Values.parse("FF0000+00ff00"))
        np.testing.assert_array_equal(arteries, np.isin(codes, (1, 3)))


def test_values_that_cannot_be_meant():
    for text in ("", "256", "1+ff0000", "red", "1,2", "-1", "1.5", "+"):
        with pytest.raises(ValueError, match="must be levels or indices from 0 to 255, as 1"):
            Values.parse(text)
    coloured = Image.fromarray(np.array(list(AV.values()), np.uint8)[vessels()])
    with pytest.raises(DataError, match="named by level must be grey or a palette image, but it has the colours 00000"):
        read(stored(coloured, "PNG"), Values.parse("1"))
    with pytest.raises(DataError, match="a mask coded by value must be lossless, but it is a JPEG"):
        read(stored(Image.fromarray(vessels()), "JPEG"), Values.parse("1"))


def test_index_masks():
    codes = rings()
    with pytest.raises(DataError, match=r"must have two values, but it has 0, 1, 2: recode it: .* as values=1"):
        read(stored(Image.fromarray(codes), "PNG"), "index")
    for kind, said in (("JPEG", "JPEG"), ("WEBP", "WEBP")):
        with pytest.raises(DataError, match=f"must be lossless, but it is a {said}: take the lossless"):
            read(stored(Image.fromarray(codes).convert("RGB"), kind), "index")


def test_channels_of_transparency():
    truth = rings() > 0
    grey = Image.fromarray(truth.astype(np.uint8) * 255)
    for opaque in (grey.convert("LA"), grey.convert("RGBA")):
        np.testing.assert_array_equal(read(stored(opaque, "PNG")), truth)
    clear = Image.fromarray(truth.astype(np.uint8), "P")
    clear.putpalette([255, 255, 255, 255, 255, 255])
    for image, options in ((clear, {"transparency": 0}), (Image.merge("LA", (Image.new("L", grey.size), grey)), {})):
        with pytest.raises(DataError, match="a mask must be opaque, but its alpha channel varies"):
            read(stored(image, "PNG", **options))


def test_other_modes_are_refused():
    for mode in ("I", "F"):
        with pytest.raises(DataError, match=f"a mask must have 8 bits or 1, but its mode is {mode}: convert it"):
            read(stored(Image.fromarray((rings() > 0).astype(np.uint8)).convert(mode), "TIFF"))


def test_a_folder_of_labels_is_refused_by_every_command_and_read_by_its_option(tmp_path, drawing, capsys):
    codes = drawing.truth("disc").astype(np.uint8) + drawing.truth("cup")
    for name in ("a", "b"):
        drawing.save(drawing.photograph(), tmp_path / "own" / "images" / f"{name}.png")
        drawing.save(Image.fromarray(codes), tmp_path / "own" / "masks" / f"{name}.png")
    with pytest.raises(DataError, match=f"{BLACK_AND_WHITE}it has the values 0, 1, 2") as error:
        cached(Folder(path="own"), tmp_path, 32, tmp_path / "cache")
    (said,) = [line for line in str(error.value).splitlines() if "b.png" in line]
    assert main([str(tmp_path), "--set", "folder:path=own"]) == 1
    assert said.removeprefix("  - ") in capsys.readouterr().out
    assert main([str(tmp_path), "--set", "folder:path=own:target=disc:values=1+2"]) == 0
    assert main([str(tmp_path), "--set", "folder:path=own:values=red"]) == 1
    assert "must be levels or indices from 0 to 255" in capsys.readouterr().out.lower()
    for values, structure in (("1+2", "disc"), ("2", "cup"), ("1", "rim")):
        opened = cached(Folder(path="own", target=structure, values=values), tmp_path, 32, tmp_path / "cache")
        np.testing.assert_array_equal(opened.native(0).mask, drawing.truth(structure))
