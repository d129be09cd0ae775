"""``python -m sam2lora.datasets.layouts > docs/datasets.md``: every set with its layout, splits, options and licence.

The text is that of the sets themselves; a test holds the file in ``docs`` to it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sam2lora.datasets import DATASETS, Folder, Incomplete

_HEAD = """\
# Data sets

Written by `python -m sam2lora.datasets.layouts` from the sets' own descriptions, and held to them by a test.
`python -m sam2lora.datasets ROOT` says which of them lie under a data root, what is wrong with them and what is absent.

The folder of a set may be written in upper or lower case. `{a,b}` stands for `a` and `b`, `*` for any text. Images and
masks may be PNG, JPEG, TIFF, BMP, GIF, PPM, WebP or JPEG 2000 files, gzipped or not; what else lies in the folders is
left out and counted. A set may lack images, but an image needs its masks. Options follow the name of a set:
`drive:annotator=second`.

The rules by which images belong to a patient are in `sam2lora/datasets/patients.py`; the checks of a pair that was read
are in `sam2lora/datasets/checks.py`.
"""


def markdown() -> str:
    """The text of ``docs/datasets.md``."""
    rows = [f"| {title} | `{name}` | {targets} | {count} |" for title, name, targets, count in map(_row, DATASETS)]
    table = "\n".join(["| set | name | structure | images |", "|---|---|---|---|", *rows])
    every = _section("Every published set: `NAME:unreadable=skip:missing=skip`", Incomplete)
    own = _section("A folder: `folder:path=PATH`", Folder)
    published = [_section(f"{one.title}: `{one.kind}`", type(one)) for one in DATASETS]
    return "\n".join([_HEAD, table, "", every, own, *published]).rstrip("\n") + "\n"


def _row(dataset: Any) -> tuple[str, str, str, str]:
    hints = get_type_hints(type(dataset))
    targets = get_args(hints["target"]) if any(f.name == "target" for f in fields(dataset)) else (dataset.target,)
    return dataset.title, dataset.kind, ", ".join(targets), str(dataset.complete)


def _section(title: str, kind: type[Any]) -> str:
    text = re.sub(r"``(.+?)``", r"`\1`", inspect.getdoc(kind) or "", flags=re.DOTALL)
    options = list(_options(kind))
    listed = ["| option | values | default |", "|---|---|---|", *options, ""] if options else []
    licence = [f"Licence: {kind.licence}.", ""] if isinstance(getattr(kind, "licence", None), str) else []
    return "\n".join([f"## {title}", "", text, "", *listed, *licence])


def _options(kind: type[Any]) -> Iterable[str]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        if field.name in ("kind", "path", "dataset"):
            continue
        choices = [each for each in (hints[field.name], *get_args(hints[field.name])) if get_origin(each) is Literal]
        values = ", ".join(f"`{value}`" for each in choices for value in get_args(each)) or "see above"
        default = f"`{field.default}`" if field.default not in ("", None) else "none"
        yield f"| `{field.name}` | {values} | {default} |"


if __name__ == "__main__":
    sys.stdout.write(markdown())
