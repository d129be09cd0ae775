"""Constraints on settings, checked before a trial is trained.

The verb is ``excess(config)``: by how much the settings miss the constraint, 0 or less where they meet it; computed
without weights or images. ``rule`` says what must hold, ``found(config)`` what does.
"""

from __future__ import annotations

from harness.constraints.trainable_share import TrainableShare

Constraint = TrainableShare

__all__ = ["Constraint", "TrainableShare"]
