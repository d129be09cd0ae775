"""The clock of the machine jumps by an hour, forwards or backwards, while trials run, and back again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Fault

HANGS = "the kernel's clock does not follow the library's: what Ray waits for until then takes an hour"
SOURCE = Path(__file__).parent / "watch" / "clock.c"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("seconds", [pytest.param(3600, marks=pytest.mark.xfail(run=False, reason=HANGS)), -3600])
def test_jumps_of_the_clock(seconds: int, fault: Fault, tmp_path: Path) -> None:
    library, clock = tmp_path / "clock.so", tmp_path / "clock"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    clock.write_text("0")
    name = f"clock an hour {'ahead' if seconds > 0 else 'behind'}, then right again"
    with fault(name, tries=2, environment={"LD_PRELOAD": str(library), "FAULTS_CLOCK": str(clock)}) as study:
        with study.started() as running:
            assert running.wait_for(lambda: len(study.trained()) >= 2), running.output()
            clock.write_text(str(seconds))
            assert running.wait_for(lambda: len(study.trained()) >= 8), running.output()
            clock.write_text("0")
            status, output = running.end()
        assert status == 0, output
