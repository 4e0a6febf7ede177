"""What the rigs of this directory share: the real Prometheus and the release binary, started on loopback, and stopped by
the process; checks that are counted; Python's packages in a place of their own. Knows nothing of what is sent or asked."""

import math
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ICECORE = os.environ.get("ICECORE_BINARY", str(TARGET / "release" / "icecore"))

processes = []
passed = 0
failed = 0


def check(name, is_right, detail=""):
    global passed, failed
    if is_right:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {detail}"[:2000], file=sys.stderr)


def is_same(one, other):
    """Whether two answers are equal, but for the last bits of their numbers."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if one == other:
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-12)
    except (TypeError, ValueError):
        return False


def check_log(path):
    """No line of a log at WARN or ERROR."""
    log = path.read_text(errors="replace")
    bad = [line for line in log.splitlines() if re.search(r"level=(warn|error)|\t(warn|error)\t|\b(WARN|ERROR)\b", line)]
    check(f"log of {path.stem}", not bad, "\n".join(bad[:5]))


def main(run, find, what, logs=("icecore",)):
    """Runs a rig in a scratch directory, with what `find` finds there, and looks at logs; the status of the process. `run`
    gives the number of its parts that were skipped, or nothing."""
    if not os.access(ICECORE, os.X_OK):
        print(f"{ICECORE} is missing: run cargo build --release first\n0 passed, 1 failed")
        return 1
    skipped = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        found = find(scratch)
        if found is None:
            print(f"SKIPPED: no {what} and it cannot be installed", file=sys.stderr)
            skipped = 1
        else:
            try:
                skipped = run(scratch, found) or 0
                for name in logs:
                    check_log(scratch / f"{name}.log")
            finally:
                stop_all()
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return int(failed > 0)


def packages(scratch, *names):
    """A Python of its own with these packages of PyPI; None, and a word about it, where they cannot be had."""
    python = scratch / "venv" / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(scratch / "venv")],
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *names],
    ):
        if subprocess.run(command, capture_output=True).returncode != 0:
            print(f"SKIPPED: {', '.join(names)} cannot be installed", file=sys.stderr)
            return None
    return python


def start(arguments, log, **kwargs):
    process = subprocess.Popen(arguments, stderr=open(log, "ab"), **kwargs)
    processes.append(process)
    return process


def stop_all():
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, is_there, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if is_there():
                return True
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.1)
    print(f"FAILED waiting for {what}", file=sys.stderr)
    return False


def find_prometheus(_scratch=None):
    return installed("prometheus", "prometheus")


def installed(binary, *names):
    """The path of a program, which Debian's packages bring where that is allowed; else None."""
    if shutil.which(binary) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # The machine may refuse; then the run is skipped.
        subprocess.run(["apt-get", "update", "-q"], check=False, **quiet)
        install = ["apt-get", "install", "-qy", "--no-install-recommends", *names]
        subprocess.run(install, check=False, **quiet, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    return shutil.which(binary)


def prometheus(binary, scratch, name, config, *flags):
    """Starts one; OWN in its configuration stands for its own address."""
    port = free_port()
    (scratch / f"{name}.yml").write_text(config.replace("OWN", f"127.0.0.1:{port}"))
    arguments = [
        binary,
        f"--config.file={scratch}/{name}.yml",
        f"--storage.tsdb.path={scratch}/{name}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
        *flags,
    ]
    start(arguments, scratch / f"{name}.log", cwd=scratch)
    return f"http://127.0.0.1:{port}"


def start_icecore(scratch, *flags):
    arguments = [ICECORE, "serve", "--data-dir", str(scratch / "data"), "--listen", "127.0.0.1:0", *flags]
    process = start(arguments, scratch / "icecore.log", stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found.group()
    sys.exit("icecore did not start")
