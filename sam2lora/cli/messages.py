"""Messages of the commands on the terminal: errors, warnings and news, each unbroken whatever the terminal's width."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from sam2lora.credentials import hide


def say(console: Console, text: str, label: str = "", style: str = "bold") -> None:
    """Print ``text`` as it is but for secrets, after ``label`` and a colon where there is a label."""
    console.print(Text.assemble((label and f"{label}: ", style), hide(text)), soft_wrap=True)


def warn(console: Console, text: str) -> None:
    """Print what the user should know about results that are made all the same."""
    say(console, text, "warning", "bold yellow")
