"""Dropout from bits, four of them to a draw, that a trial in a pack draws as it would alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def drop(x: Tensor, probability: float) -> Tensor:
    """``x`` with every element zeroed with this probability (to 2**-17), not rescaled."""
    return _keep(x, _random_bits(x.shape, [None], x.device)[0], _lowest_kept(probability))


def _keep(x: Tensor, bits: Tensor, lowest: int | Tensor) -> Tensor:
    """``x`` where ``bits`` are ``lowest`` or more, and 0 elsewhere: on a CPU five times as fast as a choice.

    ``bits`` and ``lowest`` together broadcast to the shape of ``x``.
    """
    return x * torch.ge(bits, lowest, out=torch.empty_like(x))


def _random_bits(shape: torch.Size, generators: Sequence[torch.Generator | None], device: torch.device) -> Tensor:
    """int16 (generators, *shape), uniform over all values: each row from its generator, or torch's for ``device``.

    Torch draws element by element on a CPU, which was a quarter of a training step; one draw here serves four.
    """
    count = shape.numel()
    words = torch.empty(len(generators), -(-count // 4), dtype=torch.int64, device=device)
    for row, generator in zip(words, generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:, :count].view(-1, *shape)


def _lowest_kept(probability: float) -> int:
    """The smallest of the 2**16 values of random bits that dropout keeps."""
    return min(round(probability * 2**16), 2**16 - 1) - 2**15


class PackedDropout:
    """``drop`` for K trials, each with its probability and its bits. ``Draws.seed`` comes before the first call."""

    lowest: Tensor
    generators: list[torch.Generator]
    rows: Tensor | None

    def __init__(self, probabilities: Sequence[float]) -> None:
        self.probabilities = probabilities

    def seed(self, streams: Sequence[torch.Generator]) -> None:
        """``streams``: what each trial draws from; trials that draw from the same generator have the same bits."""
        dropping = [stream for stream, drops in zip(streams, self.probabilities, strict=True) if drops]
        self.generators = list(dict.fromkeys(dropping))
        # Who drops nothing keeps any bits.
        rows = [self.generators.index(stream) if stream in dropping else 0 for stream in streams]
        device, count = streams[0].device, len(self.generators)
        self.rows = None if count == 1 or rows == list(range(count)) else torch.tensor(rows).to(device)
        lowest = torch.tensor([_lowest_kept(probability) for probability in self.probabilities], dtype=torch.int32)
        self.lowest = lowest[:, None, None].to(device)

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` (K, ..., width) with elements zeroed as each trial's dropout says, not rescaled."""
        if not self.generators:
            return x
        bits = _random_bits(x.shape[1:], self.generators, x.device)
        return _keep(x, bits if self.rows is None else bits[self.rows], self.lowest)


class Draws:
    """The bits that dropout draws for each trial of a pack: the very ones that it would draw alone.

    Trials of one seed that drop at the same places draw the same bits, which are drawn once.
    """

    def __init__(self) -> None:
        self.dropouts: dict[tuple[float, ...], PackedDropout] = {}
        self.generators: list[torch.Generator] = []
        """One for all trials that draw the same bits."""

    def dropout(self, probabilities: Sequence[float]) -> PackedDropout:
        """Dropout with the probability of every trial; places of equal ``probabilities`` share one."""
        return self.dropouts.setdefault(tuple(probabilities), PackedDropout(probabilities))

    def seed(self, seeds: Sequence[int], device: str) -> None:
        """Let each trial draw from its seed, once all places are known."""
        dropouts = self.dropouts.values()
        places = [tuple(dropout.probabilities[trial] > 0 for dropout in dropouts) for trial in range(len(seeds))]
        kinds = list(zip(seeds, places, strict=True))
        streams = {kind: torch.Generator(device).manual_seed(kind[0]) for kind in kinds}
        self.generators = [generator for (_, dropping), generator in streams.items() if any(dropping)]
        for dropout in dropouts:
            dropout.seed([streams[kind] for kind in kinds])
