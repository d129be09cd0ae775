"""SAM 2 in its four published sizes and two versions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, cast, get_args

from pydantic import StringConstraints

from sam2lora.choice import choice

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Size = Literal["tiny", "small", "base+", "large"]
Version = Literal["2.1", "2.0"]
_LETTERS: dict[Size, str] = {"tiny": "t", "small": "s", "base+": "b+", "large": "l"}


@choice
class Sam2:
    """A published SAM 2 (Ravi et al. 2024, arXiv 2408.00714): Hiera trunk, FPN neck, SAM's mask decoder.

    ``checkpoint``: sha256 of the weights file, which ``Runtime.weights`` locates; None draws random weights from a
    fixed seed. The digest, not the path, belongs to a trial: it says which weights were tuned.
    """

    takes_prompts: ClassVar[bool] = True
    guesses_iou: ClassVar[bool] = True
    trained_whole: ClassVar[bool] = False
    why_alone: ClassVar[str | None] = None
    kind: Literal["sam2"] = "sam2"
    size: Size = "large"
    version: Version = "2.1"
    checkpoint: Sha256 | None = None

    @property
    def title(self) -> str:
        """``"SAM 2.1 large"``."""
        return f"SAM {self.version} {self.size}"

    @property
    def hub_id(self) -> str | None:
        """``"facebook/sam2.1-hiera-large"``."""
        return f"facebook/{self._stem}-hiera-{self.size.replace('+', '-plus')}"

    @property
    def official_config(self) -> str | None:
        """``"configs/sam2.1/sam2.1_hiera_l.yaml"``."""
        return f"configs/{self._stem}/{self._stem}_hiera_{_LETTERS[self.size]}.yaml"

    @property
    def _stem(self) -> str:
        return "sam2" if self.version == "2.0" else f"sam{self.version}"

    @property
    def weights_sha256(self) -> str | None:
        """`checkpoint`."""
        return self.checkpoint


def published(name: str) -> Sam2 | None:
    """The model of a name as typed, ``"tiny"`` (SAM 2.1) or ``"tiny@2.0"``, without weights; None if there is none."""
    size, at, version = name.partition("@")
    if size not in get_args(Size) or (at and version not in get_args(Version)):
        return None
    return Sam2(size=cast("Size", size), version=cast("Version", version) if at else Sam2().version)
