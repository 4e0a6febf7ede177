"""The long tests of cargo with the numbers of a night, schedules of threads, coverage, the memory of the index, and the
sizes of files.

docs/reliability.md says what each must hold. Programs are built before the first check begins, so that an edit meanwhile
does not mix two sources; then their tests run by name. A name that no test has any more is a failure."""

import http.client
import json
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

from rig import ICECORE, ROOT, TARGET, Broken, Server, Skip, need

ASKED = "ICECORE_TEST_SCALE"
SCALE = os.environ.get(ASKED, "nightly")
HOURS_MAX = 8  # of one check; the longest is known to take more than one

RELEASE = ["test", "--release", "--no-run"]
LOADGEN = ROOT.parent / "shared/lab/loadgen"  # makes and writes the rows of the lab; lies beside the checkout
# How cargo makes each program, and what is set meanwhile. Coverage makes its own.
PROGRAMS = {
    "storage": ([*RELEASE, "--package", "icecore-storage", "--lib"], {}),
    "bytes": ([*RELEASE, "--package", "icecore-storage", "--test", "damage"], {}),
    "peaks": ([*RELEASE, "--package", "icecore-storage", "--test", "peaks"], {}),
    "it": ([*RELEASE, "--package", "icecore", "--test", "it"], {}),
    # Its own directory, or each build would undo the other.
    "shuttle": (
        ["test", "--no-run", "--package", "icecore-storage", "--lib", "--target-dir", str(TARGET / "shuttle")],
        {"RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} --cfg shuttle".strip()},
    ),
    "index": (["build", "--release", "--package", "icecore", "--example", "index_memory"], {}),
    "series": (["build", "--release", "--package", "icecore", "--example", "many_series"], {}),
    "loadgen": (
        ["build", "--release", "--manifest-path", str(LOADGEN / "Cargo.toml"), "--target-dir", str(TARGET / "loadgen")],
        {},
    ),
}

# Program, how many tests there are at least, and what their names begin with or hold.
TESTS = {
    "cuts": ("storage", 10, ["wal::tests::damage"]),
    "bytes": ("bytes", 3, []),
    "operations": ("storage", 5, ["at_every_operation_loses_nothing_acknowledged"]),
    "recoveries": ("storage", 1, ["power_cuts_at_every_operation_of_recoveries"]),
    "codec": ("storage", 7, ["keep_their_bits_and_size"]),
    "moments": ("storage", 1, ["engine::tests::moments::history"]),
    "schedules": ("shuttle", 5, ["engine::tests::schedules"]),
    "distinct": ("storage", 2, ["engine::tests::distinct"]),
    "groups": ("storage", 5, ["engine::tests::groups"]),
    "together": ("storage", 5, ["engine::tests::together"]),
    "leaves": ("storage", 10, ["engine::tests::expiry"]),
    "peaks": ("peaks", 3, []),
    "kept": ("it", 2, ["query::kept"]),
    "optimised": ("it", 1, ["query::optimised"]),
    "laws": ("it", 1, ["query::laws"]),
    "machine": ("storage", 1, ["state_machine_equals_map_at_every_step"]),
    "machine-faults": ("storage", 1, ["state_machine_with_faults_keeps_what_was_acknowledged"]),
}

# Checks that are no tests, and their programs.
OTHERS = {"index": ["index"], "sizes": ["series", "loadgen"]}

# Rows of the lab: what makes them, how many values of a row share the bar, and the most bytes a raw one takes.
SIZES = {
    "w1": (["w1", "--steps", "2000"], 10, 0.45),
    "w2": (["w2", "--events", "5000000"], 1, 11),
}
LAB_ROWS = {"w1": 2_000_000, "w2": 5_000_000}
LAB_START_S = 1_793_491_200

# Where tests of a path must reach, by the files below storage/src.
COVERED = {
    "wal": r"wal/",
    "manifest": r"manifest\.rs",
    "recovery": r"recovery\.rs",
    "segment reading": r"segment/(reader|layout|page|cache|dictionary)(\.rs|/)",
}
LINES_MIN, BRANCHES_MIN = 95, 85  # percent

built = {}  # what cargo made of each program: its file and the directory of its package, or why it did not


def build(names):
    """Makes the programs of these checks; returns how many there are. One that does not build fails its checks."""
    wanted = {TESTS[name][0] for name in names if name in TESTS}
    wanted |= {program for name in names for program in OTHERS.get(name, [])}
    for program in sorted(wanted):
        try:
            built[program] = make(*PROGRAMS[program])
        except (Broken, Skip) as reason:
            built[program] = reason
    return len(wanted)


def make(words, env):
    if str(LOADGEN / "Cargo.toml") in words and not LOADGEN.is_dir():
        raise Skip(f"the load generator of the lab is not beside the checkout, in {LOADGEN}")
    done = cargo([*words, "--message-format=json-render-diagnostics"], env)
    need(done.returncode == 0, f"cargo {' '.join(words)} fails: {done.stderr[-2000:]}")
    made = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    made = [one for one in made if one.get("executable")]
    # The server that tests start is made, too.
    if "test" in words or "--example" in words:
        made = [one for one in made if one["profile"]["test"] or one["target"]["kind"] == ["example"]]
    need(len(made) == 1, f"cargo {' '.join(words)} makes {len(made)} programs")
    return made[0]["executable"], Path(made[0]["manifest_path"]).parent


def cargo(words, env=None):
    if shutil.which("cargo") is None:
        raise Skip("cargo is not installed")
    env = {**os.environ, **(env or {})}
    env.pop(ASKED, None)  # what cargo runs itself are tests in their short form
    return subprocess.run(["cargo", *words], cwd=ROOT, env=env, capture_output=True, text=True)


def execute(program, words=()):
    """Status and output of a program that was built."""
    made = built[program]
    if isinstance(made, Exception):
        raise made
    executable, package = made
    scale = {} if SCALE == "short" else {ASKED: SCALE}  # some tests ask only whether it is set
    env = {name: value for name, value in os.environ.items() if name != ASKED} | scale
    try:
        done = subprocess.run(
            [executable, *words],
            cwd=package,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=HOURS_MAX * 3600,
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"does not end in {HOURS_MAX} hours") from None
    return done.returncode, done.stdout


def passed_in(output):
    """How many tests passed, over all programs in the output."""
    return sum(map(int, re.findall(r"^test result: ok\. (\d+) passed", output, re.MULTILINE)))


def tests_check(program, least, names, _scratch, _full):
    """The tests of these names pass, and they are there."""
    status, output = execute(program, [*names, "--show-output"])
    first = output.find("panicked at")
    need(status == 0, f"status {status}: {output[max(first, 0):][:2000] if 0 <= first else output[-2000:]}")
    passed = passed_in(output)
    need(least <= passed, f"{passed} tests of {' '.join(names) or program}, at least {least} are expected")
    return "; ".join([f"{SCALE}: {passed} tests", *figures(output)])


def figures(output):
    """What tests tell of themselves."""
    reads = re.findall(r"^\d+ reads of \d+ cells while \d+ batches were written$", output, re.MULTILINE)
    peaks = [int(kib) for kib in re.findall(r"peak of (?:the process )?(\d+) KiB", output)]
    return reads + ([f"at most {max(peaks)} KiB"] if peaks else [])


def index_check(_scratch, _full):
    """The index of a million series takes no more than 200 MB; the program says so itself."""
    status, output = execute("index")
    told = "; ".join(output.strip().splitlines())
    need(status == 0, f"status {status}: {told[-2000:]}")
    need("loaded from files" in told, f"nothing was loaded: {told[-2000:]}")
    return told


def sizes_check(scratch, _full):
    """Raw rows of the lab, compacted, and many series with few samples take no more bytes than their bars."""
    if isinstance(built["loadgen"], Exception):
        raise built["loadgen"]
    if not os.access(ICECORE, os.X_OK):
        raise Skip(f"{ICECORE} is missing: run cargo build --release first")
    texts, above = [], []
    for name, (_, values, most) in SIZES.items():
        size = lab_bytes_a_row(scratch, name) / values
        texts.append(f"{name} {size:.3f} bytes a {'row' if values == 1 else 'value'} of {most}")
        if most < size:
            above.append(name)
    status, output = execute("series")
    told = "; ".join([*texts, *(" ".join(line.split()) for line in output.strip().splitlines())])
    need(not above, f"{' and '.join(above)} above the bar; {told[-2000:]}")
    need(status == 0, f"status {status}: {told[-2000:]}")
    return told


def lab_bytes_a_row(scratch, name):
    """Bytes of a row in the raw layer, of rows that are written over HTTP, flushed and compacted."""
    loadgen, _ = built["loadgen"]
    words, lines, data = SIZES[name][0], scratch / f"{name}.lp", scratch / name
    made = [loadgen, "gen", *words, "--format", "lp", "--t0", LAB_START_S, "--out", lines]
    server = Server(data, arguments=["--retention", "forever"])
    url = f"http://{server.address}/write?precision=ns"
    written = [loadgen, "write", "--url", url, "--file", lines, "--format", "lp", "--batch", 5000, "--conns", 2]
    try:
        for command in (made, written):
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            need(done.returncode == 0, f"loadgen {command[1]} of {name}: {(done.stdout + done.stderr)[-2000:]}")
    finally:
        lines.unlink(missing_ok=True)  # nearly a gigabyte
    flush(server)
    server.stop()
    done = subprocess.run([ICECORE, "inspect", str(data)], capture_output=True, text=True)
    shutil.rmtree(data)
    raw = re.search(r"^ *raw +\S+ +(\S+) +\S+ +(\S+)", done.stdout, re.MULTILINE)
    need(done.returncode == 0 and raw, f"icecore inspect: {(done.stdout + done.stderr)[-2000:]}")
    rows = int(re.sub(r"\D", "", raw[1]))
    need(rows == LAB_ROWS[name], f"{rows} rows of {name}, {LAB_ROWS[name]} were written")
    return float(raw[2])


def flush(server):
    """Like `Server.ask`, but with the patience that the compaction of millions of rows takes."""
    connection = http.client.HTTPConnection(server.address, timeout=600)
    try:
        connection.request("POST", "/api/v1/admin/flush?compact=true")
        response = connection.getresponse()
        body = response.read().decode()
        need(response.status == 200, f"a flush answers {response.status} {body[:300]}")
    finally:
        connection.close()


def coverage_check(scratch, _full):
    """T28: the tests of storage reach 95 % of lines and 85 % of branches of each path that data takes."""
    if cargo(["llvm-cov", "--version"]).returncode != 0:
        cargo(["install", "cargo-llvm-cov", "--locked"])
        if cargo(["llvm-cov", "--version"]).returncode != 0:
            raise Skip("cargo-llvm-cov is not installed and could not be")
    summary = scratch / "coverage.json"
    words = ["llvm-cov", "test", "--package", "icecore-storage", "--branch", "--json", "--summary-only"]
    # The compiler calls branches unstable.
    done = cargo([*words, "--output-path", str(summary)], {"RUSTC_BOOTSTRAP": "1"})
    need(done.returncode == 0, f"cargo {' '.join(words)} fails: {(done.stdout + done.stderr)[-2000:]}")
    need(0 < passed_in(done.stdout), "no test ran")
    texts, below = [], []
    for name, pattern in COVERED.items():
        lines, branches = covered(json.loads(summary.read_text()), pattern)
        texts.append(f"{name} {lines:.1f} % and {branches:.1f} %")
        if lines < LINES_MIN or branches < BRANCHES_MIN:
            below.append(name)
    text = f"lines and branches: {', '.join(texts)}"
    need(not below, f"{' and '.join(below)} below {LINES_MIN} % or {BRANCHES_MIN} %; {text}")
    return text


def covered(summary, pattern):
    """Shares of lines and branches of the files that a pattern names, in percent."""
    wanted = re.compile(f"{re.escape(str(ROOT))}/storage/src/{pattern}")
    files = [file for file in summary["data"][0]["files"] if wanted.match(file["filename"])]
    files = [file["summary"] for file in files if "tests" not in file["filename"].removeprefix(str(ROOT))]
    shares = []
    for kind in ("lines", "branches"):
        count = sum(file[kind]["count"] for file in files)
        need(0 < count, f"no {kind} of {pattern} were counted")
        shares.append(100 * sum(file[kind]["covered"] for file in files) / count)
    return shares


NIGHT = {name: partial(tests_check, *what) for name, what in TESTS.items()}
# The longest last, so that a night that is cut short has told most.
NIGHT = {"index": index_check, "sizes": sizes_check, "coverage": coverage_check, **NIGHT}
