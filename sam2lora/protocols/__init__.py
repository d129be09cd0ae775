"""Protocols: which hospitals train a model and which ones judge it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.protocols.transfer import Transfer

Protocol = Annotated[Transfer, Field()]

__all__ = ["Protocol", "Transfer"]
