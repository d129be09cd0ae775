"""Prompters: learned modules that make, or change, what the decoder of a SAM 2 is prompted with.

They see the features of the images, never their masks: what is drawn from a mask is a choice of ``sam2lora.prompts``.

A choice that learns something says, as an adapter does, which ``sites(backbone)`` it takes, and can ``place`` itself on
an `Attachment`. There ``swap("prompter", module)`` puts a module in the place of SAM 2's own, from points, or None, and
`Features` to `Prompts`.
"""

from __future__ import annotations

from sam2lora.prompters.no_prompter import NoPrompter

Prompter = NoPrompter

__all__ = ["NoPrompter", "Prompter"]
