"""``python -m tests.golden``: write the golden record, or show what differs from it. Run it in the root folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.golden.record import PARTS, RECORD, differences, read, write

MEANT = """
If all of it was meant, renew the parts that differ, and read the change word by word:
  python -m tests.golden write PART
  git diff --word-diff tests/golden
"""
ELSEWHERE = """\
The record was made on another processor or with other versions, where the last digits of a curve may be others without
any fault. Write one of this machine at the commit before the change, and check against it:
  python -m tests.golden write bits --record DIR
  python -m tests.golden check bits --record DIR
"""


def main() -> int:
    """The command: returns 1 if anything differs from the record, else 0."""
    first = (__doc__ or "").partition(": ")[2]
    command = argparse.ArgumentParser(prog="python -m tests.golden", description=first)
    command.add_argument("action", choices=["write", "check"])
    command.add_argument("part", nargs="*", help=f"{', '.join(PARTS)} (default: all)")
    command.add_argument("--record", type=Path, default=RECORD, metavar="DIR", help="default: the committed record")
    given = command.parse_args()
    if unknown := set(given.part) - set(PARTS):
        command.error(f"a part must be one of {', '.join(PARTS)}, but is {min(unknown)!r}")
    parts = given.part or PARTS
    if given.action == "write":
        for part in parts:
            write(PARTS[part](), given.record / part)
        return 0
    differ = [line for part in parts for line in differences(part, read(given.record / part), PARTS[part]())]
    sys.stdout.writelines(differ)
    print(MEANT if differ else "Nothing differs from the record.")
    if any('"machine: ' in line for line in differ):
        print(ELSEWHERE)
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
