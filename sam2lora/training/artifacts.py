"""What a trained trial leaves in its folder, written the same way whoever trained it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch

from sam2lora.choice import to_json
from sam2lora.evaluate import n_undefined, summary
from sam2lora.files import ADAPTER, IMAGES, PREDICTIONS, RESULT, write_atomically
from sam2lora.integrity import digests_of, seal
from sam2lora.tensors import checksum
from sam2lora.training.gallery import gallery
from sam2lora.training.session import Session


def finish(session: Session, rows: pd.DataFrame, key: str, folder: Path) -> pd.DataFrame:
    """Write everything that a trial leaves into ``folder``, and return the table of its test images as it was written.

    ``rows``: one per test image, as ``final_scores`` makes them; ``key``, the trial's identity, becomes their first
    column. Raises ``DiskError`` when a file cannot be written; no file is ever half there, and ``RESULT`` comes last.
    """
    rows = rows.copy()
    rows.insert(0, "key", key)
    write_atomically(folder / IMAGES, lambda path: rows.to_parquet(path, index=False))
    tensors = session.attachment.state()
    settings = {"config": to_json(session.config), "replicate": to_json(session.replicate)}
    threshold = float(rows["threshold"].iloc[0]) if len(rows) > 0 else None
    if threshold is not None:
        settings["threshold"] = repr(threshold)
    settings["checksum"] = checksum(tensors, settings)
    write_atomically(folder / ADAPTER, lambda path: safetensors.torch.save_file(tensors, path, metadata=settings))
    picture, told = gallery(session, rows)
    write_atomically(
        folder / PREDICTIONS, lambda path: picture.save(path, format="PNG", pnginfo=told, compress_level=1)
    )
    result = {**_result(session, rows, threshold), "files": digests_of(folder, (IMAGES, ADAPTER, PREDICTIONS))}
    write_atomically(folder / RESULT, lambda path: path.write_text(seal(result)))
    return rows


def _result(session: Session, rows: pd.DataFrame, threshold: float | None) -> dict[str, Any]:
    last = session.curve[-1]
    by_set = list(rows.groupby("dataset", sort=False)) if len(rows) > 0 else []
    # A metric that is undefined on every image of a set has no mean.
    scores = {name: value for name, value in summary(rows).items() if math.isfinite(value)}
    return {
        "scores": scores,
        "undefined": {name: count for name, count in n_undefined(rows).items() if count} if by_set else {},
        "threshold": threshold,
        "n_images": {str(name): len(part) for name, part in by_set},
        "roles": {str(name): str(part["role"].iloc[0]) for name, part in by_set},
        "validation": {name: value for name, value in last.items() if name.endswith("/dice")},
        "curve": session.curve,
    }
