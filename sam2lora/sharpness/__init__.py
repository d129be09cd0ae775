"""Sharpness: how a step looks for flat minima, by more gradients than that at the weights as they are.

A choice offers:

- ``perturbs``: whether it searches around the weights, so that some have to be trained.
- ``selects_images``: whether a pass may be of some of the images. All of a step then have a prompt, or none has one.
- ``passes``: the most passes over images that a step asks for.
- ``copies``: how many tensors of the size of all trainable weights it holds at most, its memory included.
- ``step(groups, memory, rng)``: a generator that is run anew for every optimizer step. Each ``yield Ask(...)`` is a
  pass, of which it is sent the losses; a pass that goes backward leaves its gradient in every ``.grad``. When the
  generator returns, the weights are bit by bit what they were at its start, and each ``.grad`` is what the optimizer
  descends on, once it is clipped. ``memory`` is part of checkpoints, and ``rng`` is its own: one for each epoch, drawn
  from the replicate.

What a step has to keep to, so that trials train alike alone and in a pack:

- The first pass is `Ask()`; it is the one whose losses are logged. Each pass drops the gradients of the one before.
- Weights and gradients change in place. A ``.grad`` that is set None leaves its tensor out of the step.
- Nothing asks a tensor for its value: a GPU would be waited for. Code runs without autograd.

Every pass of a step draws the bits of dropout that the first one drew, and only the first moves the statistics of
BatchNorm.
"""

from __future__ import annotations

from sam2lora.sharpness.off import Off
from sam2lora.sharpness.passes import Ask, Memory, Passes, Plan

Sharpness = Off

__all__ = ["Ask", "Memory", "Off", "Passes", "Plan", "Sharpness"]
