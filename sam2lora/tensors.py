"""Named tensors as the bytes that they are."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, without a copy where it lies in one piece."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = MappingProxyType({})) -> str:
    """A CRC-32 over names, types, shapes and bytes of ``tensors``, whatever their order, and over ``metadata``."""
    total = zlib.crc32(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode(), total)
        total = zlib.crc32(bytes_of(tensor), total)
    return f"{total:08x}"
