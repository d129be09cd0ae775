"""Damaged files: nothing but ``DataError`` escapes, and damage beside the pixels does not cost the picture."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from sam2lora.datasets import Folder, cached, origa, reading
from sam2lora.datasets.metadata import without_metadata
from sam2lora.datasets.outlines import read_codes, read_contour, read_polygons
from sam2lora.datasets.reading import open_image, read_image, read_mask, read_photograph
from sam2lora.datasets.splits import read_listing
from sam2lora.errors import DataError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta><rdf tiff:Make="A"/></x:xmpmeta>'
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8).repeat(2, 0).repeat(2, 1))


def exif(orientation: int | None = None) -> Image.Exif:
    """What a camera writes: a maker, a block of its own, a place."""
    tags = Image.Exif()
    tags[271] = "Maker"
    tags.get_ifd(0x8769)[36864] = b"0230"
    tags.get_ifd(0x8825)[1] = "N"
    if orientation is not None:
        tags[274] = orientation
    return tags


def encoded(kind: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def texts() -> PngInfo:
    info = PngInfo()
    info.add_text("a", "b")
    info.add_text("z", "y" * 50, zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return info


FILES = {
    "jpeg": encoded("JPEG", exif=exif(), icc_profile=ICC, dpi=(72, 72), comment=b"hello", xmp=XMP),
    "progressive jpeg": encoded("JPEG", progressive=True, exif=exif()),
    "mpo": encoded("MPO", save_all=True, append_images=[PICTURE]),
    "png": encoded("PNG", exif=exif(), icc_profile=ICC, pnginfo=texts(), dpi=(72, 72)),
    "palette png": encoded("PNG", PICTURE.quantize(9), transparency=0),
    "grey png": encoded("PNG", PICTURE.convert("L")),
    "tiff": encoded("TIFF", exif=exif(), icc_profile=ICC, dpi=(72, 72)),
    "lzw tiff": encoded("TIFF", compression="tiff_lzw"),
    "bilevel tiff": encoded("TIFF", PICTURE.convert("1")),
    "bmp": encoded("BMP"),
    "palette bmp": encoded("BMP", PICTURE.quantize(9)),
    "dib": encoded("DIB"),
    "gif": encoded("GIF", PICTURE.quantize(9)),
    "ppm": encoded("PPM"),
    "pbm": encoded("PPM", PICTURE.convert("1")),
    "letters": b"P3 4 4 255\n" + b"200 100 50 " * 16,
    "webp": encoded("WEBP", exif=exif(), icc_profile=ICC),
    "lossless webp": encoded("WEBP", lossless=True),
    "jpeg 2000": encoded("JPEG2000"),
}


def damaged(data: bytes, draw: random.Random) -> bytes:
    """A file cut, with bits flipped, with a number made extreme, or with a piece replaced."""
    content = bytearray(data)
    match draw.randrange(5):
        case 0:
            return data[: draw.randrange(len(data))]
        case 1 | 2 as place:
            within = len(content) if place == 1 else min(len(content), 300)
            for _ in range(draw.choice([1, 1, 2, 4, 16])):
                content[draw.randrange(within)] ^= 1 << draw.randrange(8)
        case 3:
            at = draw.randrange(len(content))
            content[at : at + 4] = draw.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
        case _:
            at = draw.randrange(len(content))
            content[at : at + draw.randrange(40)] = draw.randbytes(draw.choice([0, 0, 5, 20]))
    return bytes(content)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FILES)
def test_of_damaged_files_nothing_but_a_data_error_escapes(name, monkeypatch):
    """Also where warnings are errors. Every case is drawn from the name, so a failure can be repeated."""
    draw, said = random.Random(name), []
    content = b""
    monkeypatch.setattr(reading, "_bytes", lambda path: content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(250):
            content = damaged(FILES[name], draw)
            for read in (read_photograph, lambda path: read_mask(path, (12, 16)), read_codes):
                try:
                    read(Path("eye.png"))
                except DataError as error:
                    said.append(str(error))
    assert said
    assert all(text.startswith("eye.png: ") for text in said)


SHAPES = [{"label": "disc", "points": [[1, 2], [3, 4], [5, 1]], "shape_type": "polygon"}]
TEXTS = {
    "contour": (b"1.5 2\n3 4.25\n5 1\n" * 4, read_contour),
    "labelme": (json.dumps({"shapes": SHAPES, "imageHeight": 6}).encode(), read_polygons),
    "patients": (b"image,patient,split\n" + "\u00e9,p,0\nb,q,1\nc,p,0\n".encode(), read_listing),
    "list": (b"Eye,Filename,ExpCDR,Set,Glaucoma\n" + b"OD,001.jpg,0.6,A,0\nOS,002.jpg,0.6,B,0\n" * 3, origa._read_list),
}


@pytest.mark.parametrize("name", TEXTS)
def test_of_damaged_texts_nothing_but_a_data_error_escapes(name, tmp_path):
    content, read = TEXTS[name]
    draw, file, said = random.Random(name), tmp_path / "file", []
    for _ in range(250):
        file.write_bytes(damaged(content, draw))
        try:
            read(file)
        except DataError as error:
            said.append(str(error))
    assert all("file: " in text for text in said)
    assert said or name == "list"  # whose reader returns its problem


def of_jpeg(data: bytes) -> list[tuple[int, int]]:
    """Where the application segments and comments of a JPEG file begin and end, JFIF's excepted."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xFE or 0xE1 <= data[at + 1] <= 0xEF:
            found.append((at, end))
        at = end
    return found


def of_png(data: bytes) -> list[tuple[int, int]]:
    """Where the chunks of metadata of a PNG file begin and end."""
    at, found = 8, []
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 5].islower():
            found.append((at, end))
        at = end
    return found


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def png_chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def with_all_kinds_of_metadata() -> tuple[bytes, bytes]:
    """A JPEG and a PNG that have more of it than Pillow writes."""
    jpeg, png = FILES["jpeg"], FILES["png"]
    block = b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0" + struct.pack(">I", 16) + bytes(16)
    raw = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n12\n" + b"Exif\0\0II*\0".hex().encode() + b"\n")
    jpeg = jpeg[:20] + jpeg_segment(0xED, block) + jpeg_segment(0xE2, b"MPF\0II*\0\x08\0\0\0") + jpeg[20:]
    chunks = [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", bytes(32)), (b"sRGB", b"\0"), (b"zTXt", raw)]
    return jpeg, png[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + png[33:]


def variants(data: bytes) -> list[bytes]:
    """Every piece of metadata of a file with one bit flipped, cut after each byte, or with a wrong sum of check."""
    made = []
    if data.startswith(b"\xff\xd8"):
        for at, end in of_jpeg(data):
            for byte in range(at + 4, end):
                flipped = bytes([data[byte] ^ (1 << byte % 8)])
                made.append(data[:byte] + flipped + data[byte + 1 :])
                made.append(data[:at] + jpeg_segment(data[at + 1], data[at + 4 : byte]) + data[end:])
        return made
    for at, end in of_png(data):
        name, payload = data[at + 4 : at + 8], data[at + 8 : end - 4]
        for byte in range(len(payload)):
            flipped = payload[:byte] + bytes([payload[byte] ^ (1 << byte % 8)]) + payload[byte + 1 :]
            made += [data[:at] + png_chunk(name, part) + data[end:] for part in (flipped, payload[:byte])]
        made.append(data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:])
    return made


@pytest.mark.parametrize("which", [0, 1], ids=["jpeg", "png"])
def test_a_sound_picture_is_read_whatever_is_damaged_beside_it(which, monkeypatch):
    data = with_all_kinds_of_metadata()[which]
    content = data
    monkeypatch.setattr(reading, "_bytes", lambda path: content)
    expected = read_image(Path("eye.png"))
    cases = variants(data)
    assert len(cases) > 1300
    for content in cases:  # noqa: B007 - read by the function above
        np.testing.assert_array_equal(read_image(Path("eye.png")), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_orientation_counts_wherever_its_block_is_cut(kind, monkeypatch):
    """Cut behind the entry, it is known; cut within it or before, no reader knows one."""
    data = encoded(kind, exif=exif(orientation=6), dpi=(72, 72))
    ((at, end),) = [
        (at, end)
        for at, end in (of_jpeg(data) if kind == "JPEG" else of_png(data))
        if b"Exif" in data[at:end] or data[at + 4 : at + 8] == b"eXIf"
    ]
    head, tail = (4, 0) if kind == "JPEG" else (8, 4)
    payload = data[at + head : end - tail]
    entry = payload.index(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06") + 10
    content = b""
    monkeypatch.setattr(reading, "_bytes", lambda path: content)
    for length in range(len(payload)):
        cut = payload[:length]
        made = jpeg_segment(data[at + 1], cut) if kind == "JPEG" else png_chunk(b"eXIf", cut)
        content = data[:at] + made + data[end:]
        if length < entry:
            open_image(Path("eye"))
        else:
            with pytest.raises(DataError, match="its EXIF orientation is 6: turn the pixels"):
                open_image(Path("eye"))


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_a_photograph_is_turned_as_its_tag_says(kind, turn, tmp_path):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    (tmp_path / "eye").write_bytes(encoded(kind, exif=exif(orientation=turn), **options))
    stored = np.asarray(PICTURE) if kind != "JPEG" else np.asarray(Image.open(tmp_path / "eye"))
    np.testing.assert_array_equal(read_photograph(tmp_path / "eye"), UPRIGHT[turn](stored))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_upright(value, tmp_path):
    (tmp_path / "eye").write_bytes(encoded("PNG", exif=exif(orientation=value)))
    for read in (read_photograph, read_image):
        np.testing.assert_array_equal(read(tmp_path / "eye"), np.asarray(PICTURE))


def test_an_orientation_in_xmp_counts(tmp_path):
    said = b'<x:xmpmeta><rdf tiff:Orientation="8"/></x:xmpmeta>'
    (tmp_path / "eye").write_bytes(encoded("WEBP", lossless=True, xmp=said))
    with pytest.raises(DataError, match="its EXIF orientation is 8"):
        read_image(tmp_path / "eye")
    np.testing.assert_array_equal(read_photograph(tmp_path / "eye"), np.rot90(np.asarray(PICTURE), 1))


def test_pictures_with_damaged_metadata_train_and_nothing_is_skipped(tmp_path, drawing):
    base = tmp_path / "clinic"
    for number in range(8):
        drawing.save(drawing.photograph(), base / "images" / f"{number}.png")
        drawing.save(drawing.grey(drawing.truth()), base / "masks" / f"{number}.png")
    whole = (base / "images" / "2.png").read_bytes()
    (base / "images" / "2.png").write_bytes(whole[:33] + png_chunk(b"eXIf", b"II*\0") + whole[33:])
    jpeg = encoded("JPEG", drawing.photograph(), dpi=(72, 72), quality=95)
    (base / "images" / "3.png").write_bytes(jpeg[:20] + jpeg_segment(0xE1, b"Exif\0\0II*\0") + jpeg[20:])
    for skip in ("refuse", "skip"):
        opened = cached(Folder(path=str(base), unreadable=skip), None, 32, tmp_path / "cache")
        assert (len(opened), opened.skipped) == (8, ())
    np.testing.assert_array_equal(opened.images[2], opened.images[1])


@pytest.mark.parametrize("where", ["self", "behind", "within"])
def test_a_tiff_whose_list_of_pictures_is_damaged(where, tmp_path):
    """A list that leads to itself holds one picture; where it leads to nothing, no one knows how many there were."""
    data = FILES["tiff"]
    first = struct.unpack("<I", data[4:8])[0]
    link = first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0]
    target = {"self": first, "behind": len(data) + 99, "within": 1}[where]
    (tmp_path / "eye.tif").write_bytes(data[:link] + struct.pack("<I", target) + data[link + 4 :])
    if where == "self":
        np.testing.assert_array_equal(read_image(tmp_path / "eye.tif"), np.asarray(PICTURE))
    else:
        with pytest.raises(DataError, match="must hold one picture, but it holds a second one, which is damaged: save"):
            read_image(tmp_path / "eye.tif")


@pytest.mark.parametrize(
    "error",
    [struct.error("x"), OverflowError("x"), TypeError("x"), KeyError("x"), MemoryError(), RecursionError("x"),
     AssertionError(), ZeroDivisionError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), UserWarning("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_pillow_raises_becomes_a_data_error(error, tmp_path, monkeypatch):
    (tmp_path / "eye.png").write_bytes(FILES["png"])

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", fail)
    with pytest.raises(DataError, match=r"eye\.png: an image file must be readable, but .+: copy it again") as caught:
        read_image(tmp_path / "eye.png")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("name", [name for name in FILES if name != "pbm"])  # whose header ends there
def test_a_header_that_is_damaged_is_not_called_another_format(name, tmp_path):
    (tmp_path / "eye").write_bytes(FILES[name][:16] + b"\xff" * 60)
    with pytest.raises(DataError) as caught:
        open_image(tmp_path / "eye")
    assert "which begin none of" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_its_metadata_shows_the_same_and_is_no_longer(name):
    bare = without_metadata(FILES[name])
    assert (len(bare) < len(FILES[name])) == (name in ("jpeg", "progressive jpeg", "mpo", "png"))
    assert without_metadata(bare) == bare
    shown, expected = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (bare, FILES[name]))
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_any_beginning_of_a_file_can_be_rid_of_metadata(name):
    for length in range(len(FILES[name])):
        assert len(without_metadata(FILES[name][:length])) <= length
