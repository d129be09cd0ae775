"""Files as disks, copies and strangers damage them, and the readers that meet them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from harness.errors import HarnessError
from harness.record import journal
from sam2lora.choice import to_json
from sam2lora.config import Replicate
from sam2lora.datasets.outlines import read_codes, read_contour, read_labelme
from sam2lora.datasets.reading import read_image, read_mask, read_photograph
from sam2lora.defaults import BASE
from sam2lora.errors import DamagedFile, Sam2LoraError
from sam2lora.integrity import check_archive, read_result, seal
from sam2lora.settings import parse_settings, read_settings, with_assignments
from sam2lora.tensors import checksum
from sam2lora.trained import read

OURS = (Sam2LoraError, HarnessError, DamagedFile)
"""What a reader may raise."""
SHAPE = (48, 64)
LOSSLESS = ("PNG", "TIFF", "BMP")


@dataclass(frozen=True)
class Reader:
    """What reads a file of a name, and files that it takes."""

    read: Callable[[Path], object]
    name: str
    sound: tuple[bytes, ...]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """``content`` cut, with other bytes in places, with a part twice or left out, or nothing but noise."""
    size = len(content)
    begin, end = sorted(int(place) for place in rng.integers(size + 1, size=2))
    match int(rng.integers(6)):
        case 0:
            return content[:begin]
        case 1:
            changed = bytearray(content)
            for place in rng.integers(size, size=rng.integers(1, 9)):
                changed[place] = int(rng.integers(256))
            return bytes(changed)
        case 2:
            return content[:end] + content[begin:]
        case 3:
            return content[:begin] + content[end:]
        case 4:
            return content[:begin] + rng.bytes(int(rng.integers(1, 40))) + content[begin:]
        case _:
            return rng.bytes(int(rng.integers(200)))


def try_damaged(reader: Reader, files: int, folder: Path) -> int:
    """Let ``reader`` read ``files`` damaged ones in ``folder``; how many it refused in our words. Others are raised."""
    rng, refused = np.random.default_rng(0), 0
    for number in range(files):
        (folder / reader.name).write_bytes(damaged(reader.sound[number % len(reader.sound)], rng))
        try:
            reader.read(folder / reader.name)
        except OURS:
            refused += 1
    return refused


def readers() -> Mapping[str, Reader]:
    """Every reader of a file from outside, by what it reads."""
    return {
        "photograph": Reader(read_photograph, "eye.png", _pictures(*LOSSLESS, "JPEG", "WEBP", mode="RGB")),
        "gzipped photograph": Reader(read_photograph, "eye.ppm.gz", _gzipped()),
        "image": Reader(read_image, "eye.jpg", _pictures(*LOSSLESS, "JPEG", "WEBP", mode="RGB")),
        "mask": Reader(lambda path: read_mask(path, SHAPE), "mask.png", _pictures(*LOSSLESS, "GIF", mode="L")),
        "codes": Reader(lambda path: read_codes(path, SHAPE), "codes.png", _pictures(*LOSSLESS, mode="L")),
        "contour": Reader(read_contour, "disc.txt", (b"1.0 2.0\n30.5 2.0\n30.0 40.0\n2.0 30.0\n",)),
        "labelme": Reader(read_labelme, "eye.json", (_labelme(),)),
        "settings": Reader(read_settings, "settings.json", (to_json(BASE).encode(),)),
        "assignments": Reader(_assign, "assignments.txt", (b"optimizer.lr=0.001\nadapters.0.rank=16\nadapters=[]",)),
        "adapter": Reader(read, "adapter.safetensors", (_adapter(),)),
        "checkpoint": Reader(check_archive, "checkpoint.pt", (_archive(),)),
        "result": Reader(
            lambda path: read_result(path.parent), "result.json", (seal({"scores": {"a/dice": 0.5}}).encode(),)
        ),
        "journal": Reader(lambda path: journal.read(path.parent), journal.JOURNAL, (b'{"number": 1}\n', b"\n")),
    }


def _assign(path: Path) -> object:
    text = path.read_bytes().decode(errors="surrogateescape")
    parse_settings(to_json(BASE), "here")
    return with_assignments(BASE, text.split("\n"))


def _pictures(*formats: str, mode: str) -> tuple[bytes, ...]:
    """A square on black in each of ``formats``."""
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    pixels[12:36, 16:48] = 255
    made = []
    for kind in formats:
        stream = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(stream, kind)
        made.append(stream.getvalue())
    return tuple(made)


def _gzipped() -> tuple[bytes, ...]:
    return tuple(gzip.compress(content, mtime=0) for content in _pictures("PPM", mode="RGB"))


def _labelme() -> bytes:
    points = [[1.0, 2.0], [30.0, 2.0], [30.0, 40.0]]
    return json.dumps({"shapes": [{"label": "disc", "shape_type": "polygon", "points": points}]}).encode()


def _adapter() -> bytes:
    tensors = {"block.weight": torch.arange(12.0).reshape(3, 4)}
    metadata = {"config": to_json(BASE), "replicate": to_json(Replicate()), "threshold": "0.5"}
    return safetensors.torch.save(tensors, {**metadata, "checksum": checksum(tensors, metadata)})


def _archive() -> bytes:
    stream = io.BytesIO()
    torch.save({"epoch": 1, "weights": torch.ones(3)}, stream)
    return stream.getvalue()
