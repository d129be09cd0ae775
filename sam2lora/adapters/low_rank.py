"""Low-rank updates of frozen Linear layers: the modules behind the choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam2lora.adapters.dropout import drop


class LowRank(nn.Module):
    """``x (..., inputs) -> scale * B A x (..., outputs)``, zero at first because ``B`` is (Hu et al. 2021, eq. 3).

    ``A`` (rank, inputs) and ``B`` (outputs, rank) are the parameters. Dropout acts in training mode alone, on the
    update (``site="output"``, SAM2LoRA) or on ``x`` (``"input"``, Hu et al. and peft).
    """

    def __init__(
        self, first: Tensor, outputs: int, scale: float, dropout: float, site: Literal["output", "input"]
    ) -> None:
        """``first`` (rank, inputs): the initial ``A``."""
        super().__init__()
        self.A = nn.Parameter(first)
        self.B = nn.Parameter(first.new_zeros(outputs, first.shape[0]))
        self.scale, self.dropout, self.site = scale, dropout, site

    def forward(self, x: Tensor) -> Tensor:
        """The update (..., outputs) for ``x`` (..., inputs)."""
        update = functional.linear(self._inner(x), self.B)
        return drop(update, self.dropout) if self._drops("output") else update

    def add_to(self, y: Tensor, rows: slice, x: Tensor) -> Tensor:
        """``y`` (N, channels) with the update for ``x`` (N, inputs) added to its ``rows``. May overwrite ``y``.

        On a CPU a pass over the many channels of ``y`` costs more than the product with a few of ``B``.
        """
        if self._drops("output"):
            return add_rows(y, rows, self(x))
        second = functional.pad(self.B, (0, 0, rows.start, y.shape[-1] - rows.stop))
        return y.addmm_(self._inner(x), second.mT.to(y.dtype))

    def _inner(self, x: Tensor) -> Tensor:
        """``scale * A x`` (..., rank): the scale, dropout's own included, where channels are few."""
        if self._drops("input"):
            x = drop(x, self.dropout)
        scale = self.scale / (1 - self.dropout) if self._drops(self.site) else self.scale
        return functional.linear(x, self.A) * scale

    def _drops(self, site: str) -> bool:
        return self.training and self.dropout > 0 and self.site == site

    def weight(self) -> Tensor:
        """``scale * B A`` (outputs, inputs): what a merge adds to the frozen weight."""
        return self.scale * self.B @ self.A


class LoRALinear(nn.Linear):
    """A frozen Linear layer plus low-rank updates of its output, whole or by parts.

    Shares weight and bias with ``linear`` and keeps their names, so the state dict of the backbone stays readable.
    ``lora`` maps the name of a part to its update; ``rows`` says which output channels a part covers.
    """

    frozen: Tensor | None

    def __init__(self, linear: nn.Linear, lora: Mapping[str, LowRank], rows: Mapping[str, slice]) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.lora = nn.ModuleDict(lora)
        self.rows = dict(rows)
        self.register_parameter("frozen", None)  # the weight itself, while a merged one stands in for it
        self.train(linear.training)

    def part(self, name: str) -> LowRank:
        """The update of the part ``name``."""
        part = self.lora[name]
        assert isinstance(part, LowRank)
        return part

    def updates(self) -> list[tuple[slice, LowRank]]:
        """The parts: output channels and their update."""
        return [(rows, self.part(name)) for name, rows in self.rows.items()]

    def forward(self, x: Tensor) -> Tensor:
        """``W x + b`` and the updates, (..., out_features)."""
        if self.frozen is not None:
            return super().forward(x)
        rows_of_x = x.reshape(-1, self.in_features)
        y = super().forward(rows_of_x)
        for rows, update in self.updates():
            y = update.add_to(y, rows, rows_of_x)
        return y.view(*x.shape[:-1], -1)

    @torch.no_grad()
    def merge(self) -> None:
        """Let the sum of weight and updates stand in for the weight: the same output at the cost of a plain layer."""
        if self.frozen is not None:
            raise ValueError("A layer must be merged once, but this one is merged already: unmerge it first.")
        merged = self.weight.clone()
        for rows, update in self.updates():
            merged[rows] += update.weight()
        self.frozen, self.weight = self.weight, nn.Parameter(merged, requires_grad=False)

    def unmerge(self) -> None:
        """Put the weight back, bit by bit what it was."""
        if self.frozen is None:
            raise ValueError("A layer must be merged before it is unmerged, but this one is not: leave unmerge out.")
        self.weight, self.frozen = self.frozen, None

    @property
    def merged(self) -> bool:
        """Whether the weight holds the updates."""
        return self.frozen is not None


def add_rows(y: Tensor, rows: slice, update: Tensor) -> Tensor:
    """``y`` (..., outputs) with ``update`` (..., width) added to its channels ``rows``."""
    if update.shape[-1] == y.shape[-1]:
        return y + update
    return y + functional.pad(update, (rows.start, y.shape[-1] - rows.stop))


def merge(segmenter: nn.Module) -> None:
    """Merge every low-rank update of ``segmenter`` into its frozen weight, for inference.

    In float32 the output agrees to 1e-5. A merged update trains no more: ``unmerge`` first.
    """
    for layer in lora_layers(segmenter).values():
        layer.merge()


@contextmanager
def merged(segmenter: nn.Module) -> Iterator[None]:
    """Every update is merged for the time of the block; one that was merged before stays so."""
    layers = [layer for layer in lora_layers(segmenter).values() if not layer.merged]
    for layer in layers:
        layer.merge()
    try:
        yield
    finally:
        for layer in layers:
            layer.unmerge()


def unmerge(segmenter: nn.Module) -> None:
    """Undo ``merge`` exactly: a frozen model that is used again and again does not drift."""
    for layer in lora_layers(segmenter).values():
        layer.unmerge()


def lora_layers(segmenter: nn.Module) -> dict[str, LoRALinear]:
    """The adapted layers by name, in the order of the modules."""
    return {name: module for name, module in segmenter.named_modules() if isinstance(module, LoRALinear)}
