"""SAM 2 in its four published sizes and two versions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from sam2lora.choice import choice

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Size = Literal["tiny", "small", "base+", "large"]
Version = Literal["2.1", "2.0"]


@choice
class Sam2:
    """A published SAM 2 (Ravi et al. 2024, arXiv 2408.00714): Hiera trunk, FPN neck, SAM's mask decoder.

    ``checkpoint``: sha256 of the weights file, which ``Runtime.checkpoint`` locates; None draws random weights from a
    fixed seed. The digest, not the path, belongs to a trial: it says which weights were tuned.
    """

    kind: Literal["sam2"] = "sam2"
    size: Size = "large"
    version: Version = "2.1"
    checkpoint: Sha256 | None = None
