"""Low-rank updates of several trials on one frozen layer: a GPU is asked as often for sixteen trials as for two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam2lora.adapters.dropout import Draws
from sam2lora.adapters.low_rank import LoRALinear, LowRank, add_rows


class Stack:
    """The Parameters of K trials in one tensor, and their gradients in another: factor by factor, a row for each trial.

    A Parameter is a view of the values, and its gradient of the gradients: the forward pass reads what the optimizers
    have written, they read what the backward pass has written, and no step stacks or slices anything. The gradients
    stay where they are from step to step. If each backward pass made new ones, every Parameter would have to be given
    a view of them in every step: as many views as trials times factors.

    Parameters stay views when their pack comes apart, since that may be for want of memory; the storage goes when the
    last of them does, or moves into another stack.
    """

    grads: Tensor
    """All gradients (numbers,), within ``gradients``."""

    def __init__(self, trials: Sequence[Sequence[nn.Parameter]]) -> None:
        """``trials``: the factors of each, in one order. Their ranks may differ, their other sides may not."""
        self.columns = list(zip(*trials, strict=True))
        self.sizes = [len(column) * max(parameter.numel() for parameter in column) for column in self.columns]
        self.values = trials[0][0].new_zeros(sum(self.sizes))
        own = self._own(self.values)
        torch._foreach_copy_(own, [parameter.detach() for parameter in self._parameters()])
        for parameter, view in zip(self._parameters(), own, strict=True):
            parameter.data = view
        self.leaves = dict(zip(trials[0], self._blocks(self.values), strict=True))
        """What the forward pass reads, by the first trial's Parameter; zero in the padding.

        (K, R, inputs) for ``A``, (K, outputs, R) for ``B`` of equal ranks R. ``B`` of different ranks is (K, numbers):
        its rows of r numbers lie densely, as an optimizer's kernels require, until `Padding` spreads them.
        """
        self.padding = cache(Padding)
        """Layers of equal width share one."""

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Room for gradients, zero at first, for the time of the block."""
        self.grads = torch.zeros_like(self.values)
        for leaf, grad in zip(self.leaves.values(), self._blocks(self.grads), strict=True):
            leaf.requires_grad_().grad = grad
        for parameter, grad in zip(self._parameters(), self._own(self.grads), strict=True):
            parameter.grad = grad
        try:
            yield
        finally:
            for tensor in (*self.leaves.values(), *self._parameters()):
                tensor.grad = None
            del self.grads

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for column in self.columns for parameter in column]

    def _own(self, numbers: Tensor) -> list[Tensor]:
        """The place of every Parameter in ``numbers``."""
        return [
            row[: parameter.numel()].view_as(parameter)
            for column, block in zip(self.columns, self._blocks(numbers), strict=True)
            for parameter, row in zip(column, block.flatten(1), strict=True)
        ]

    def _blocks(self, numbers: Tensor) -> list[Tensor]:
        """The place of every factor of all trials in ``numbers``."""
        blocks = torch.split(numbers, self.sizes)
        return [block.view(_shape(column)) for column, block in zip(self.columns, blocks, strict=True)]


def _shape(column: Sequence[Tensor]) -> tuple[int, ...]:
    widths = {factor.shape[1] for factor in column}
    return (len(column), -1, *widths) if len(widths) == 1 else (len(column), -1)


class Padding:
    """How ``B`` of K trials, whose rows of r numbers lie densely, comes to have rows of R, with zeros at their ends.

    A permutation: the numbers behind a trial's own are zeros, and are as many as the ends of its rows lack.
    """

    def __init__(self, ranks: Sequence[int], outputs: int, device: torch.device) -> None:
        width = max(ranks)
        rank = torch.tensor(ranks, device=device)[:, None, None]
        row, column = torch.arange(outputs, device=device)[:, None], torch.arange(width, device=device)
        behind = outputs * rank + row * (width - rank) + column - rank
        self.there = torch.where(column < rank, row * rank + column, behind).flatten(1)
        # The gradient of `bmm` with a transposed factor comes transposed, and is dense in that order.
        transposed = (column * outputs + row).flatten().expand_as(self.there)
        self.back = torch.empty_like(self.there).scatter_(1, self.there, transposed)
        self.shape = (outputs, width)

    def __call__(self, dense: Tensor) -> Tensor:
        """(K, outputs, R) of ``dense`` (K, outputs * R)."""
        padded: Tensor = _Permuted.apply(dense, self.there, self.back, self.shape)
        return padded


class _Permuted(torch.autograd.Function):
    """``dense`` in another order and shape: one launch there, and one back. Torch's own way back is a sum."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, there: Tensor, back: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(back)
        return dense.gather(1, there).view(-1, *shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (back,) = ctx.saved_tensors
        return grad.mT.flatten(1).gather(1, back), None, None, None


class PackedLinear(nn.Module):
    """A frozen Linear layer plus the low-rank updates of K trials, on an input whose leading axis is trial-major.

    ``y = W x + b`` is one product for all; ``s_k B_k A_k x`` is a grouped one. Ranks are padded with zeros, which stay
    zero: they are in no Parameter.
    """

    def __init__(self, layers: Sequence[LoRALinear], stack: Stack, draws: Draws | None) -> None:
        """``layers``: each trial's, with their factors in ``stack``. ``draws``: dropout's bits, in training."""
        super().__init__()
        first = layers[0]
        self.weight, self.bias = first.weight, first.bias
        self.updates = [
            (rows, PackedLowRank([layer.part(name) for layer in layers], stack, draws))
            for name, rows in first.rows.items()
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(K n, ..., out_features) for ``x`` (K n, ..., in_features)."""
        y = functional.linear(x, self.weight, self.bias)
        for rows, update in self.updates:
            y = add_rows(y, rows, update(x))
        return y


class PackedLowRank:
    """The updates ``s_k B_k A_k x`` of K trials."""

    def __init__(self, updates: Sequence[LowRank], stack: Stack, draws: Draws | None) -> None:
        """``updates``: each trial's, with its factors in ``stack``. ``draws``: dropout's bits, in training."""
        first, ranks = updates[0], tuple(update.A.shape[0] for update in updates)
        self.A, self.B = stack.leaves[first.A], stack.leaves[first.B]
        self.padding = stack.padding(ranks, first.B.shape[0], self.B.device) if len(set(ranks)) > 1 else None
        self.site = first.site
        self.dropout = None if draws is None else draws.dropout([update.dropout for update in updates])
        scales = [update.scale / (1 - update.dropout if draws is not None else 1) for update in updates]
        self.scales = torch.tensor(scales, dtype=self.A.dtype)[:, None, None].to(self.A.device)

    def __call__(self, x: Tensor) -> Tensor:
        """(K n, ..., outputs) for ``x`` (K n, ..., inputs), trial-major."""
        grouped = x.reshape(len(self.A), -1, x.shape[-1])
        inner = torch.bmm(self._drop(grouped, "input"), self.A.mT)
        second = self.B if self.padding is None else self.padding(self.B)
        outer = torch.bmm(inner * self.scales.to(inner.dtype), second.mT)
        return self._drop(outer, "output").reshape(*x.shape[:-1], -1)

    def _drop(self, x: Tensor, site: str) -> Tensor:
        return x if self.dropout is None or site != self.site else self.dropout(x)


class PackedLoRA:
    """`sam2lora.adapters.LoRA` of K trials, whose ranks may differ."""

    def __init__(self, sites: Sequence[Sequence[nn.Module]], draws: Draws | None) -> None:
        """``sites``: each with the `LoRALinear` of every trial."""
        layers = [[layer for layer in site if isinstance(layer, LoRALinear)] for site in sites]
        self.stack = Stack([_factors(trial) for trial in zip(*layers, strict=True)])
        self.modules: Sequence[nn.Module] = [PackedLinear(trials, self.stack, draws) for trials in layers]

    def gradients(self) -> AbstractContextManager[None]:
        """`Stack.gradients`."""
        return self.stack.gradients()

    def zero_grad(self) -> None:
        """Set the gradients of all trials zero, in one launch."""
        self.stack.grads.zero_()


def _factors(layers: Sequence[LoRALinear]) -> list[nn.Parameter]:
    return [factor for layer in layers for _, update in layer.updates() for factor in (update.A, update.B)]
