"""BASE, the settings that every shipped search starts from."""

from __future__ import annotations

from sam2lora.base import BASE

__all__ = ["BASE"]
