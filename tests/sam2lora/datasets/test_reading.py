"""How files are decoded, and every reason why one cannot be."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets.pairs import Entry
from sam2lora.datasets.reading import read_image, read_mask, read_pair
from sam2lora.errors import DataError


@pytest.fixture
def files(tmp_path, drawing):
    return {
        "image": drawing.save(drawing.photograph(), tmp_path / "eye.png"),
        "mask": drawing.save(drawing.grey(drawing.truth()), tmp_path / "mask.png"),
    }


def entry(files, **changed):
    return Entry("eye", "eye", changed.get("image", files["image"]), (changed.get("mask", files["mask"]),))


@pytest.mark.parametrize(
    ("coding", "make"),
    [
        ("light", lambda mask, draw: Image.fromarray(mask)),
        ("light", lambda mask, draw: draw.grey(mask)),
        ("light", lambda mask, draw: draw.grey(mask).convert("RGB")),
        ("light", lambda mask, draw: draw.grey(mask).convert("RGBA")),
        ("light", lambda mask, draw: draw.palette(mask, [4, 2, 4, 252, 254, 252])),
        ("index", lambda mask, draw: draw.palette(mask, [0, 0, 0, 255, 0, 0])),
        ("index", lambda mask, draw: draw.grey(mask, white=1)),
        ("index", lambda mask, draw: draw.palette(mask, [0, 0, 0, 255, 0, 0]).convert("RGB")),
    ],
)
def test_codings_of_a_mask(coding, make, tmp_path, drawing):
    path = drawing.save(make(drawing.truth(), drawing), tmp_path / "mask.png")
    shape = (drawing.height, drawing.width)
    np.testing.assert_array_equal(read_mask(path, shape, coding), drawing.truth())


def test_noise_of_a_compressed_mask_is_undone(tmp_path, drawing):
    path = drawing.save(drawing.grey(drawing.truth("disc")), tmp_path / "mask.jpg", quality=70)
    mask = read_mask(path, (drawing.height, drawing.width))
    assert np.unique(np.asarray(Image.open(path))).size > 2
    assert (mask ^ drawing.truth("disc")).mean() < 0.002


def test_a_damaged_file(files):
    for name in ("image", "mask"):
        data = files[name].read_bytes()
        for broken in (b"", b"no image at all", data[: len(data) // 2]):
            files[name].write_bytes(broken)
            with pytest.raises(DataError, match=f"{files[name].name}: an image file must be readable, but"):
                read_pair(entry(files))
        files[name].write_bytes(data)


def test_a_damaged_archive(tmp_path, files):
    path = tmp_path / "eye.ppm.gz"
    packed = gzip.compress(b"P6 2 2 255 " + bytes(12))
    for broken in (packed[:-9], b"not packed", packed[:12] + b"\xff" * 20):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"eye.ppm.gz: an image file must be readable, but"):
            read_image(path)


def test_a_mask_of_another_size(files, drawing):
    drawing.save(drawing.grey(drawing.truth()[:-1]), files["mask"])
    with pytest.raises(DataError, match=r"mask\.png: a mask must have the size of its image, 72x60, but it has 72x59"):
        read_pair(entry(files))


@pytest.mark.parametrize(("share", "text"), [(0, "covers 0%"), (255, "covers 130%")])
def test_an_empty_and_a_full_mask(share, text, files, drawing):
    drawing.save(Image.new("L", (drawing.width, drawing.height), share), files["mask"])
    with pytest.raises(DataError, match=r"mask must cover more than nothing and less than half") as error:
        read_pair(entry(files))
    assert text.split()[0] in str(error.value)
    assert "polarity" in str(error.value)


def test_an_inverted_mask(files, drawing):
    drawing.save(drawing.grey(~drawing.truth()), files["mask"])
    with pytest.raises(DataError, match="polarity"):
        read_pair(entry(files))


@pytest.mark.parametrize("turn", [0, 1])
def test_upright_tags(turn, tmp_path, drawing):
    exif = Image.Exif()
    exif[274] = turn
    path = drawing.save(drawing.photograph(), tmp_path / "eye.jpg", exif=exif)
    assert read_image(path).shape == (drawing.height, drawing.width, 3)


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_turned_image_is_refused(turn, tmp_path, drawing):
    exif = Image.Exif()
    exif[274] = turn
    path = drawing.save(drawing.photograph(), tmp_path / "eye.jpg", exif=exif)
    with pytest.raises(DataError, match=f"must be stored upright, but its EXIF orientation is {turn}: turn the pixels"):
        read_image(path)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_an_image_must_be_rgb(mode, tmp_path, drawing):
    path = drawing.save(drawing.photograph().convert(mode), tmp_path / "eye.tif")
    with pytest.raises(DataError, match=f"an image must be 8-bit RGB, but its mode is {mode}: convert it"):
        read_image(path)


def test_a_mask_of_sixteen_bits_is_refused(tmp_path, drawing):
    wide = Image.fromarray(drawing.truth().astype(np.uint16) * 65535)
    path = drawing.save(wide, tmp_path / "mask.png")
    with pytest.raises(DataError, match="a mask must have 8 bits or 1, but its mode is I;16: convert it"):
        read_mask(path, (drawing.height, drawing.width))
