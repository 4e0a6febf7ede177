"""What the rigs of this directory share: the release binary started on loopback, writers that remember what was
acknowledged, disks and memory groups. Knows nothing of the faults."""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ICECORE = os.environ.get("ICECORE_BINARY", str(TARGET / "release/icecore"))
ROWS = 5  # of a batch


class Skip(Exception):
    """The rig cannot run here; the text says why."""


class Broken(Exception):
    """A promise was broken."""


def need(condition, text):
    if not condition:
        raise Broken(text)


def need_root(what):
    if os.geteuid() != 0:
        raise Skip(f"{what} needs root")


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skip(f"{words[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Server:
    """The binary on a port of its own."""

    START_MAX_S = 30
    started = []  # processes, so that none outlives its rig

    def __init__(self, data, env=None, arguments=(), before=None):
        self.log = tempfile.TemporaryFile(mode="w+")
        command = [ICECORE, "serve", "--data-dir", str(data), "--listen", "127.0.0.1:0", *arguments]
        started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            preexec_fn=before,
        )
        Server.started.append(self.process)
        limit = threading.Timer(self.START_MAX_S, self.process.kill)
        limit.start()
        try:
            self.address = self.read_address()
        finally:
            limit.cancel()
        self.start_s = time.monotonic() - started

    def read_address(self):
        for line in self.process.stdout:
            if line.startswith("listening on "):
                return line.split("http://")[1].strip().rstrip("/")
        self.process.wait()
        hangs = f" in {self.START_MAX_S} s" if self.process.returncode == -signal.SIGKILL else ""
        raise Broken(f"the server did not start{hangs}: {self.tail()}")

    @classmethod
    def end_all(cls):
        for process in cls.started:
            process.kill()
            process.wait()
        cls.started = []

    def log_text(self):
        # The server writes at the position of this very file: reading must not move it.
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode(errors="replace")

    def warnings(self):
        """The lines of its log that are warnings or errors."""
        return [line for line in self.log_text().splitlines() if re.match(r"\S+ +(WARN|ERROR) ", line)]

    def metric(self, name):
        """A number of /metrics that has no other label than the database."""
        status, body = self.ask("GET", "/metrics")
        need(status == 200, f"/metrics answers {status} {body[:300]}")
        return int(re.search(rf'^{name}{{db="default"}} (\d+)$', body, re.MULTILINE)[1])

    def tail(self):
        return self.log_text()[-2000:]

    def ask(self, method, path, body=None, **parameters):
        """Status and body; a new connection each time."""
        status, text, _ = self.ask_whole(method, path, body, **parameters)
        return status, text

    def ask_whole(self, method, path, body=None, head=(), **parameters):
        """Status, body and headers; `head` are headers of the request."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, f"{path}?{urllib.parse.urlencode(parameters)}", body, dict(head))
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers
        finally:
            connection.close()

    def select(self, text, database="default"):
        """The rows of a SELECT, as lists; times in milliseconds."""
        status, body = self.ask("GET", "/query", q=text, epoch="ms", db=database)
        need(status == 200, f"{text}: {status} {body[:300]}")
        series = json.loads(body)["results"][0].get("series", [])
        return [row for one in series for row in one["values"]]

    def is_alive(self):
        return self.process.poll() is None

    def rss_peak_mib(self):
        return self.memory_mib("VmHWM")

    def memory_mib(self, name):
        """A size of /proc/PID/status: VmRSS is what is resident, VmHWM the most that ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Broken("SIGTERM did not end the server in 15 s") from None
        need(status == 0, f"SIGTERM ended the server with status {status}: {self.tail()}")


class Writer:
    """Sends batches of its own series, and remembers which were acknowledged, and when."""

    def __init__(self, name, base_ms):
        self.name, self.base_ms = name, base_ms
        self.next = 0
        self.acked = []  # (batch, monotonic time)
        self.refused = {}  # text of a 5xx -> how often
        self.is_stopped = False

    def body(self, batch):
        first = batch * ROWS
        lines = (
            f"load,writer={self.name} batch={batch}i,value={value}i {self.base_ms + value}"
            for value in range(first, first + ROWS)
        )
        return "\n".join(lines)

    def run(self, address):
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            while not self.is_stopped:
                batch, self.next = self.next, self.next + 1
                connection.request("POST", "/write?precision=ms", self.body(batch))
                response = connection.getresponse()
                answer = response.read().decode()
                if response.status == 204:
                    self.acked.append((batch, time.monotonic()))
                else:
                    self.refused[answer[:200]] = self.refused.get(answer[:200], 0) + 1
                    time.sleep(0.01)
        except (OSError, http.client.HTTPException):
            pass  # the server is gone; a batch without an answer is never sent again
        finally:
            connection.close()

    def verify(self, server, acked):
        """Compares with what the server has; returns how many of the acknowledged batches are missing."""
        found = {}
        for at_ms, batch, value in server.select(f"SELECT batch, value FROM load WHERE writer = '{self.name}'"):
            need(value // ROWS == batch and at_ms == self.base_ms + value, f"{self.name}: wrong row {batch} {value}")
            found[batch] = found.get(batch, 0) + 1
        for batch, rows in found.items():
            need(rows == ROWS, f"{self.name}: batch {batch} has {rows} rows of {ROWS}")
            need(batch < self.next, f"{self.name}: batch {batch} was never sent")
        return sum(batch not in found for batch in acked)


class Load:
    """Writers on threads, and now and then a flush with compaction, so that jobs are hit, too."""

    def __init__(self, base_ms, writers=4):
        self.writers = [Writer(f"w{number}", base_ms) for number in range(writers)]
        self.threads = []
        self.is_over = True

    def start(self, server, flush_every_s=0.1):
        for writer in self.writers:
            writer.is_stopped = False
            self.threads.append(threading.Thread(target=writer.run, args=[server.address]))
        self.is_over = False
        if flush_every_s is not None:
            self.threads.append(threading.Thread(target=self.flush, args=[server, flush_every_s]))
        for thread in self.threads:
            thread.start()

    def flush(self, server, every_s):
        turn = 0
        while not self.is_over:
            time.sleep(every_s)
            turn += 1
            try:
                server.ask("POST", "/api/v1/admin/flush", compact="true" if turn % 3 == 0 else "false")
            except (OSError, http.client.HTTPException):
                return

    def end(self):
        self.is_over = True
        for writer in self.writers:
            writer.is_stopped = True
        for thread in self.threads:
            thread.join()
        self.threads = []

    def acked(self, before=None):
        """Acknowledged batches of each writer, all or those before a moment."""
        return [[b for b, at in list(w.acked) if before is None or at <= before] for w in self.writers]

    def lost(self, server, acked=None):
        acked = self.acked() if acked is None else acked
        return sum(writer.verify(server, batches) for writer, batches in zip(self.writers, acked))

    def count(self):
        return sum(len(writer.acked) for writer in self.writers)


def check_files(data):
    done = subprocess.run([ICECORE, "check", str(data)], capture_output=True, text=True)
    need(done.returncode == 0, f"icecore check: {done.stdout[-800:]}{done.stderr[-400:]}")


def now_ms():
    return int(time.time() * 1000) - 3_600_000


def seconds_ago(seconds):
    """A time parameter."""
    return f"{time.time() - seconds:.3f}"


class Disk:
    """An ext4 in a file, mounted."""

    def __init__(self, image, mount, is_new):
        self.image, self.mount = image, mount
        if is_new:
            run("truncate", "-s", "700M", image)
            run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", image)
        mount.mkdir()
        run("mount", "-o", "loop", image, mount)

    def close(self):
        Server.end_all()  # after a failure one may still hold files of it
        for _ in range(50):
            if subprocess.run(["umount", self.mount], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        self.mount.rmdir()
        self.image.unlink()


class Group:
    """A memory group (cgroup) for a server, which may also get only a part of a core."""

    def __init__(self, memory_mib, core_percent=None):
        need_root("a memory group")
        self.places = []
        self.set("memory", "memory.limit_in_bytes", memory_mib * 2**20)
        if core_percent is not None:
            self.set("cpu", "cpu.cfs_quota_us", core_percent * 1_000)

    def set(self, controller, file, value):
        place = Path(f"/sys/fs/cgroup/{controller}/icecore-{os.getpid()}")
        try:
            place.mkdir()
            self.places.append(place)
            (place / file).write_text(str(value))
        except OSError as error:
            self.close()
            raise Skip(f"no {controller} group: {error}") from None

    def enter(self):
        for place in self.places:
            (place / "cgroup.procs").write_text(str(os.getpid()))

    def close(self):
        for place in self.places:
            place.rmdir()
