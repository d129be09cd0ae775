"""What `make install` runs, with stand-ins for the tools that it installs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_checkout_installs_in_a_folder_whose_name_a_shell_would_split(tmp_path: Path) -> None:
    checkout = tmp_path / "my lab (1) #2"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout)
    for name in ("uv", "python"):
        tool = checkout / ".venv" / "bin" / name
        tool.write_text('#!/bin/sh\necho "$VIRTUAL_ENV" >> used\n')
        tool.chmod(0o755)
    subprocess.run(["make", "install"], cwd=checkout, check=True, capture_output=True)
    assert (checkout / "used").read_text().splitlines()[0] == str(checkout / ".venv")
