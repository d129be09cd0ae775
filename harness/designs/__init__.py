"""Designs: which arms an ablation compares, and by which contrasts.

A design is a frozen value that knows ``arms(base)``, the settings of every arm by its name, and ``contrasts()``, the
family of comparisons that are judged together. ``baselines()`` names the arms that may equal the base; ``membership()``
names, for a design whose arms are sets of things, the arms that have each of them. ``describe()`` is its part of a
study's question, as JSON; ``reference`` in it is the arm that all others are compared with.
"""

from __future__ import annotations

from harness.designs.add_one_in import AddOneIn
from harness.designs.changes import Change, Factor, setting
from harness.designs.crossed import Crossed
from harness.designs.factorial import Factorial
from harness.designs.leave_one_out import LeaveOneOut
from harness.designs.levels import Levels
from harness.designs.mixture import Mixture

Design = Factorial | LeaveOneOut | AddOneIn | Levels | Crossed | Mixture

__all__ = [
    "AddOneIn",
    "Change",
    "Crossed",
    "Design",
    "Factor",
    "Factorial",
    "LeaveOneOut",
    "Levels",
    "Mixture",
    "setting",
]
