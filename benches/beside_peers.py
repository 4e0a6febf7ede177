#!/usr/bin/env python3
"""Runs `lab.py` of the lab beside this checkout (../shared/lab, which says what it takes) with all background work in its figures.

The lab takes a server for quiet after four seconds without work. icecore flushes what came last after a minute, and merges and rolls
its hour another minute later: here every server has two minutes and a half before it can be quiet. QUIET_MIN_S says otherwise.
VictoriaMetrics may count the 500,000 series of w3, which it refuses by default."""

import os
import sys
import time
from pathlib import Path

LAB = Path(__file__).resolve().parents[2] / "shared" / "lab" / "lab.py"
START = "\nmain()\n"  # the last line of lab.py
COUNTS = "-search.maxUniqueTimeseries=1000000"
QUIET_MIN_S = float(os.environ.get("QUIET_MIN_S", 150))

if not LAB.is_file():
    sys.exit(f"{LAB} is missing: the lab does not lie beside this checkout")
source = LAB.read_text()
if not source.endswith(START):
    sys.exit(f"{LAB} does not end with main()")
lab = {"__name__": "lab", "__file__": str(LAB)}
exec(compile(source.removesuffix(START), str(LAB), "exec"), lab)
settle_of_lab = lab["Target"].settle
start_of_lab = lab["Target"].start
rested = set()  # servers, by pid


def settle(target, limit=60):
    """Seconds until the server is quiet; after the first time of each it is as the lab has it."""
    rest_s = 0 if target.pid in rested else QUIET_MIN_S
    rested.add(target.pid)
    time.sleep(rest_s)
    return rest_s + settle_of_lab(target, limit)


def start(target, *words, **named):
    """Starts the server."""
    if target.name == "vm" and COUNTS not in target.c["start"]:
        target.c["start"].append(COUNTS)
    return start_of_lab(target, *words, **named)


lab["Target"].settle, lab["Target"].start = settle, start
lab["main"]()
