"""How files are decoded, and every reason why one cannot be."""

from __future__ import annotations

import gzip
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets import reading
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


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("L", r"L \(grey\): take the colour photograph"),
        ("LA", r"LA \(grey\): take the colour photograph"),
        ("1", r"1 \(black and white\): take the colour photograph"),
        ("CMYK", "CMYK: convert it"),
        ("LAB", "LAB: convert it"),
    ],
)
def test_an_image_must_be_rgb(mode, said, tmp_path, drawing):
    path = drawing.save(drawing.photograph().convert(mode), tmp_path / "eye.tif")
    with pytest.raises(DataError, match=f"an image must be 8-bit RGB, but its mode is {said}"):
        read_image(path)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("RGBA", "png"), ("RGBA", "tif"), ("RGBA", "jp2"), ("P", "png"), ("P", "tif"), ("P", "gif")],
)
def test_an_opaque_image_with_a_palette_or_an_alpha_channel_is_read_as_it_looks(mode, ending, tmp_path, drawing):
    image = drawing.photograph() if mode == "RGBA" else drawing.photograph().quantize(8)
    path = drawing.save(image.convert(mode), tmp_path / f"eye.{ending}")
    assert Image.open(path).mode == mode
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("how", ["alpha", "palette", "colour"])
def test_a_transparent_image_is_refused(how, tmp_path, drawing):
    """What shows through is not in the file: an alpha channel, a clear entry of the palette, a colour that is clear."""
    image = drawing.photograph()
    if how == "alpha":
        image.putalpha(drawing.grey(drawing.lit()))
    elif how == "palette":
        image = image.quantize(8)
    clear = {"palette": image.getpixel((0, 0)), "colour": (0, 0, 0)}.get(how)
    path = drawing.save(image, tmp_path / "eye.png", **({} if clear is None else {"transparency": clear}))
    with pytest.raises(DataError, match=r"an image must be opaque, but \d+% of its pixels are transparent: save it on"):
        read_image(path)


@pytest.mark.parametrize("value", [0, 90, 255])
def test_an_image_that_shows_nothing_is_refused(value, tmp_path, drawing):
    """A file of zeros, and what cameras write over one: noise, and a mark in a corner."""
    pixels = np.random.default_rng(0).integers(value, value + 4, (96, 128, 3)).clip(0, 255).astype(np.uint8)
    pixels[:9, :30] = 200
    with pytest.raises(DataError, match=r"eye.png: an image must show something, but it is all about \("):
        read_image(drawing.save(Image.fromarray(pixels), tmp_path / "eye.png"))
    pixels[:, :30] = 128
    assert read_image(drawing.save(Image.fromarray(pixels), tmp_path / "half.png")).shape == (96, 128, 3)


def test_a_clear_colour_that_no_pixel_has_hides_nothing(tmp_path, drawing):
    path = drawing.save(drawing.photograph(), tmp_path / "eye.png", transparency=(1, 2, 3))
    np.testing.assert_array_equal(read_image(path), np.asarray(drawing.photograph()))


@pytest.mark.parametrize(
    ("text", "deep"), [(b"P3 2 2 65535\n" + b"65535 300 1 " * 4, True), (b"P3 2 2 255 " * 2, False)]
)
def test_a_ppm_in_letters_of_sixteen_bits_is_refused(text, deep, tmp_path):
    (tmp_path / "eye.ppm").write_bytes(text if deep else b"P3 2 2 255\n" + b"255 3 1 9 3 1 " * 2)
    if deep:
        with pytest.raises(DataError, match="must have 8 bits per channel or less, but it has 16"):
            read_image(tmp_path / "eye.ppm")
    else:
        assert read_image(tmp_path / "eye.ppm")[0, 0].tolist() == [255, 3, 1]


def test_a_bitmap_of_sixteen_bits_a_pixel_has_five_a_channel_and_is_read(tmp_path):
    head = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 74, 0, 0, 54, 40, 2, 2, 1, 16, 0, 8, 0, 0, 0, 0)
    (tmp_path / "eye.bmp").write_bytes(head + struct.pack("<4H", 0x7C00, 0x03E0, 0x001F, 0))
    assert read_image(tmp_path / "eye.bmp")[1].tolist() == [[255, 0, 0], [0, 255, 0]]


def test_a_mask_of_sixteen_bits_is_refused(tmp_path, drawing):
    wide = Image.fromarray(drawing.truth().astype(np.uint16) * 65535)
    path = drawing.save(wide, tmp_path / "mask.png")
    with pytest.raises(DataError, match="must have 8 bits per channel or less, but it has 16: convert it"):
        read_mask(path, (drawing.height, drawing.width))


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("ending", ["png", "tiff", "ppm"])
def test_an_image_of_sixteen_bits_is_refused_and_not_narrowed(ending, colour, tmp_path, drawing):
    """Pillow reads 16-bit colour as 8-bit RGB; OpenCV writes such files."""
    deep = np.asarray(drawing.photograph()).astype(np.uint16) * 257
    path = tmp_path / f"eye.{ending if colour or ending != 'ppm' else 'pgm'}"
    assert cv2.imwrite(str(path), deep if colour else deep[..., 0])
    with pytest.raises(DataError, match="must have 8 bits per channel or less, but it has 16: convert it, image"):
        read_image(path)


@pytest.mark.parametrize("colour", [True, False])
def test_a_jpeg_2000_of_sixteen_bits_is_refused_and_not_narrowed(colour, tmp_path, drawing):
    deep = np.asarray(drawing.photograph()).astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "eye.jp2"), deep if colour else deep[..., 0])
    with pytest.raises(DataError, match="must have 8 bits per channel or less, but it has 16: convert it, image"):
        read_image(tmp_path / "eye.jp2")


def test_an_empty_file_and_a_text_that_is_called_an_image(tmp_path):
    path = tmp_path / "eye.png"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"eye.png: an image file must be readable, but it is empty: copy it again"):
        read_image(path)
    path.write_text("image,patient")
    with pytest.raises(
        DataError, match=r"but its first bytes are b'image,pa', which begin none of BMP, DIB, GIF, JPEG, "
    ):
        read_image(path)
    (tmp_path / "eye.ppm.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="but it is empty"):
        read_image(tmp_path / "eye.ppm.gz")


def test_a_file_that_would_start_another_program_is_not_opened(tmp_path, drawing):
    """Pillow hands PostScript to Ghostscript."""
    path = drawing.save(drawing.photograph(), tmp_path / "eye.eps").rename(tmp_path / "eye.png")
    with pytest.raises(DataError, match="which begin none of"):
        read_image(path)


def test_contents_decide_the_format(tmp_path, drawing):
    path = drawing.save(drawing.photograph(), tmp_path / "eye.bmp").rename(tmp_path / "eye.png")
    np.testing.assert_array_equal(read_image(path), np.asarray(drawing.photograph()))


def test_bombs(tmp_path, monkeypatch):
    """A kilobyte that unpacks to more than fits; the limits are lowered so that the test is quick."""
    path = tmp_path / "eye.png"
    Image.new("1", (3000, 2000)).save(path)
    monkeypatch.setattr(reading, "_MOST_PIXELS", 1000 * 1000)
    with pytest.raises(DataError, match="must have 1000x1000 pixels or less, but it has 3000x2000: make sure"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="must have 1000x1000 pixels or less, but it has more than that"):
        read_image(path)
    monkeypatch.setattr(reading, "_MOST_BYTES", 2**20)
    packed = tmp_path / "eye.ppm.gz"
    packed.write_bytes(gzip.compress(bytes(2**20 + 1)))
    assert packed.stat().st_size < 2000
    with pytest.raises(DataError, match="must unpack to 1 MiB or less, but it holds more"):
        read_image(packed)


def test_several_pictures_in_one_file(tmp_path, drawing):
    for ending in ("tif", "gif"):
        path = tmp_path / f"eye.{ending}"
        grey = drawing.grey(drawing.truth())
        grey.save(path, save_all=True, append_images=[drawing.grey(drawing.truth("disc"))])
        with pytest.raises(DataError, match="must hold one picture, but it holds 2: save the one that is meant"):
            read_mask(path, (drawing.height, drawing.width))


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_a_turned_tiff_is_refused_before_pillow_turns_it(ending, tmp_path, drawing):
    exif = Image.Exif()
    exif[274] = 6
    path = drawing.save(drawing.grey(drawing.truth()), tmp_path / f"mask.{ending}", exif=exif)
    with pytest.raises(DataError, match="must be stored upright, but its EXIF orientation is 6"):
        read_mask(path, (drawing.height, drawing.width))


def test_a_transparent_mask_is_refused(tmp_path, drawing):
    clear = drawing.grey(np.zeros((drawing.height, drawing.width), bool)).convert("RGBA")
    clear.putalpha(drawing.grey(drawing.truth()))
    path = drawing.save(clear, tmp_path / "mask.png")
    with pytest.raises(DataError, match="a mask must be opaque, but its alpha channel varies"):
        read_mask(path, (drawing.height, drawing.width))


def test_an_empty_mask_is_kept_where_that_is_asked_for(files, drawing):
    drawing.save(Image.new("L", (drawing.width, drawing.height)), files["mask"])
    assert not read_pair(entry(files), empty="keep").mask.any()
    drawing.save(drawing.grey(np.ones((drawing.height, drawing.width), bool)), files["mask"])
    with pytest.raises(DataError, match="polarity"):
        read_pair(entry(files), empty="keep")
