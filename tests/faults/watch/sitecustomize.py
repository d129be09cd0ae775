"""Loaded by every Python process of a study under test.

It notes each checkpoint that is written, which is each epoch: a line of ``$FAULTS_EPOCHS`` is the key of the trial and
the number of the process that trained it. Where ``$FAULTS_MIB`` is set, a worker of Ray's that opens its first image
gets no more memory than so many MiB beyond what it has.
"""

import os
import resource
import sys
from pathlib import Path

LIMIT = os.environ.get("FAULTS_MIB") if any("default_worker.py" in word for word in sys.orig_argv) else None
limited = False


def _note(event: str, arguments: tuple) -> None:
    if event == "os.rename" and str(arguments[1]).endswith("/checkpoint.pt"):
        key = str(arguments[1]).split("/")[-2]
        log = os.open(os.environ["FAULTS_EPOCHS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{key} {os.getpid()}\n".encode())
        os.close(log)
    if LIMIT and event == "open" and not limited and str(arguments[0]).startswith(os.environ["SAM2LORA_CACHE"]):
        _limit(int(LIMIT))


def _limit(mib: int) -> None:
    global limited
    limited = True
    status = Path("/proc/self/status").read_text().splitlines()
    taken = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
    most = taken * 2**10 + mib * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


sys.addaudithook(_note)
