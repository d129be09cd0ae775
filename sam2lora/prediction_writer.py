"""What ``python -m sam2lora.predict`` writes: masks, overlays, probabilities, a table of images, and the settings."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from sam2lora.datasets.pairs import Bits, Pixels
from sam2lora.errors import DataError
from sam2lora.files import write_atomically
from sam2lora.photographs import RESULTS, SETTINGS
from sam2lora.tiles import Logits

TABLE = "images.csv"
COLUMNS = (
    "image", "file", "sha256", "width", "height", "pixels_per_field", "field_pixels", "area_pixels", "area_share",
    "confidence", "seconds",
)  # fmt: skip
_GREEN = (0, 158, 115)  # that of what is found in a trial's predictions.png


@dataclass(frozen=True)
class Output:
    """Where predictions are written, and which: the probability threshold of masks, with overlays or without.

    ``bits``: of the pictures of probabilities, 8 or 16; None for no such pictures.
    """

    folder: Path
    threshold: float
    bits: int | None
    overlays: bool


def write_pictures(output: Output, name: str, image: Pixels, fov: Bits, logits: Logits) -> dict[str, Any]:
    """Write the pictures of ``image`` (H, W, 3), its mask last; returns its columns of the table that they decide.

    ``fov``, ``logits``: (H, W). Nothing is predicted outside the field of view. Raises ``DiskError``.
    """
    mask = (logits > math.log(output.threshold / (1 - output.threshold))) & fov
    probability = expit(logits)
    if output.bits is not None:
        levels = np.where(fov, np.rint(probability * (2**output.bits - 1)), 0)
        _save(output.folder / "probabilities" / f"{name}.png", levels.astype(f"uint{output.bits}"))
    if output.overlays:
        _save(output.folder / "overlays" / f"{name}.png", _overlay(image, mask))
    _save(output.folder / "masks" / f"{name}.png", mask * np.uint8(255))
    pixels, area = int(fov.sum()), int(mask.sum())
    sure = np.where(mask, probability, 1 - probability)[fov]
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "field_pixels": pixels,
        "area_pixels": area,
        "area_share": round(area / pixels, 6) if pixels else math.nan,
        "confidence": round(float(sure.mean()), 6) if pixels else math.nan,
    }


def _overlay(image: Pixels, mask: Bits) -> Pixels:
    """``image`` (H, W, 3) with the pixels of ``mask`` (H, W) half green."""
    painted = image.copy()
    painted[mask] = image[mask] // 2 + np.array(_GREEN, np.uint8) // 2
    return painted


def _save(path: Path, pixels: NDArray[Any]) -> None:
    picture = Image.fromarray(pixels)
    write_atomically(path, lambda draft: picture.save(draft, format="PNG"))


def write_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Append a row, with all of ``COLUMNS``, to the table of images in ``folder``."""
    table = folder / TABLE
    fresh = not table.exists()
    with table.open("a", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def claim(out: Path, settings: dict[str, Any], files: Mapping[str, Path], overwrite: bool) -> dict[str, Path]:
    """Prepare ``out`` for ``files`` and return those that are still to be predicted.

    Incomplete rows, and rows whose mask is missing, are removed from the table. Raises ``DataError``, and changes
    nothing, if the folder holds other files, predictions with other settings, or a mask of another photograph of the
    same name: of another file, or of a file that has changed since.
    """
    rows, known = _rows(out / TABLE), out / SETTINGS
    if not known.exists() and (existing := [name for name in (*RESULTS, TABLE) if (out / name).exists()]):
        raise DataError(
            f"Predictions need a separate folder, but {out} holds {existing[0]}, which is not of a prediction: name "
            f"another folder."
        )
    names = {name: str(file) for name, file in files.items()}
    kept = [row for row in rows if _is_whole(out, row) and not (overwrite and row["image"] in names)]
    before = _settings(known) if known.exists() else settings
    if before != settings and (kept or not overwrite):
        differ = ", ".join(sorted(name for name in settings if before.get(name) != settings[name]))
        raise DataError(
            f"All predictions in a folder must have the same adapter and settings, but those in {out} differ in "
            f"{differ}: name another folder with --out, or predict all of its images again with --overwrite."
        )
    if clash := [row for row in kept if names.get(row["image"], row["file"]) != row["file"]]:
        raise DataError(
            f"A folder holds one mask of each name, but {out} has that of {clash[0]['file']}, and "
            f"{names[clash[0]['image']]} has the same name: name another folder with --out, or use --overwrite."
        )
    wanted = [row for row in kept if row["image"] in files]
    if changed := [row for row in wanted if content_digest(files[row["image"]]) != row["sha256"]]:
        raise DataError(
            f"A mask must belong to its photograph, but {changed[0]['file']} has changed since its prediction: "
            f"replace the mask with --overwrite, or name another folder with --out."
        )
    write_atomically(known, lambda path: path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n"))
    if len(kept) < len(rows):
        (out / TABLE).unlink()
        for row in kept:
            write_row(out, row)
    done = {row["image"] for row in kept}
    return {name: file for name, file in files.items() if name not in done}


def _rows(table: Path) -> list[dict[str, Any]]:
    if not table.exists():
        return []
    with table.open(newline="") as opened:
        lines = csv.DictReader(opened)
        if tuple(lines.fieldnames or ()) not in ((), COLUMNS):
            raise DataError(
                f"{table}: the columns must be {','.join(COLUMNS)}, but they are {','.join(lines.fieldnames or ())}: "
                f"name another folder with --out."
            )
        return list(lines)


def _is_whole(out: Path, row: Mapping[str, Any]) -> bool:
    """Whether a row is complete and has its mask."""
    return None not in row.values() and (out / "masks" / f"{row['image']}.png").exists()


def _settings(known: Path) -> dict[str, Any]:
    try:
        before: dict[str, Any] = json.loads(known.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{known} must be a JSON file of an earlier prediction, but {error}: name another folder with --out."
        ) from error
    return before


def content_digest(file: Path) -> str:
    """The sha256 of a file, or an empty text if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""
