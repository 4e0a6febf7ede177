"""One file of a stopped server is damaged; then the server is started, asked for all that it has, and started again."""

import http.client
import json
import shutil
import subprocess
from collections import Counter

from rig import ICECORE, Broken, Server, need, now_ms

HOSTS, STEP_MS = 4, 10_000
HOURS = 6
FIELDS = ["value", "usage", "note"]


def body(base_ms, rows):
    """Rows of all hosts, of an integer, a float and a text."""
    return "\n".join(
        f'm,host=h{host} value={row * HOSTS + host}i,usage={row / 8 + host},note="n{row % 7}" {base_ms + row * STEP_MS}'
        for row in rows
        for host in range(HOSTS)
    )


def wanted(base_ms, rows):
    return {
        (f"h{host}", base_ms + row * STEP_MS): [row * HOSTS + host, row / 8 + host, f"n{row % 7}"]
        for row in rows
        for host in range(HOSTS)
    }


def template(data):
    """A directory with raw segments, cells, catalog files, a log with rows and a second database, of a killed server.
    Returns the rows that were acknowledged."""
    base_ms = now_ms() // 3_600_000 * 3_600_000 - HOURS * 3_600_000
    rows = range(HOURS * 3_600_000 // STEP_MS)
    server = Server(data, arguments=["--retention", "forever"])

    def write(part, db="default"):
        status, answer = server.ask("POST", "/write", body(base_ms, part), db=db, precision="ms")
        need(status == 204, f"a write answers {status} {answer}")

    def flush(compact):
        status, answer = server.ask("POST", "/api/v1/admin/flush", compact=compact)
        need(status == 200, f"a flush answers {status} {answer}")

    parts = [rows[: len(rows) // 2], rows[len(rows) // 2 : -120], rows[-120:-60]]
    write(parts[0])
    flush("false")
    write(parts[1])
    flush("true")
    write(parts[2])
    flush("false")
    for first in range(len(rows) - 60, len(rows), 10):
        write(range(first, first + 10))
    server.ask("POST", "/query", q="CREATE DATABASE other")
    write(rows[:10], db="other")
    server.kill()
    return base_ms, rows


def damages(path, full):
    """Name and content, or None for a file that is gone."""
    content = path.read_bytes()
    yield "deleted", None
    if not content:
        return
    yield "emptied", b""
    yield "cut by one", content[:-1]
    yield "cut to half", content[: len(content) // 2]
    yield "zeroed", bytes(len(content))
    places = [16, 64] if full else [4]
    for part in range(places[0]):
        at = (2 * part + 1) * len(content) // (2 * places[0])
        flipped = bytearray(content)
        flipped[at] ^= 1 << (part % 8)
        yield f"flip at {at}", bytes(flipped)


class Case:
    """What a damaged directory answers."""

    def __init__(self, data, name, base_ms, rows):
        self.data, self.name, self.base_ms, self.rows = data, name, base_ms, rows

    def is_named(self, text):
        return self.name.name in text or str(self.name) in text

    def judge(self):
        """One word for the outcome; raises Broken for what must never be."""
        check = subprocess.run([ICECORE, "check", str(self.data)], capture_output=True, text=True, timeout=60)
        need("panicked" not in check.stderr, f"check panics: {check.stderr}")
        finding = check.stdout + check.stderr
        try:
            server = Server(self.data)
        except Broken as broken:
            text = str(broken)
            need("did not start in" not in text, f"the start hangs: {text}")
            need("panicked" not in text, f"the start panics: {text}")
            need(self.is_named(text), f"a refusal that does not name the file: {text}")
            need(check.returncode != 0, f"the start is refused, and check finds nothing: {finding}")
            return "refuses, named"
        lost, errors = self.read(server)
        log = server.log_text()
        need("panicked" not in log, f"a panic: {log}")
        need(all(self.is_named(error) for error in errors), f"errors do not name the file: {errors}")
        self.write_behind(server)
        if lost == 0 and not errors:
            return "all there, reported" if self.is_named(log) else "all there"
        if errors:
            need(check.returncode != 0, f"check finds nothing, reads say {errors}: {finding}")
            return "errors, named"
        is_told = self.is_named(log) and (check.returncode != 0 or self.is_named(finding))
        need(is_told, f"{lost} rows are lost, and nobody says so: {log} {finding}")
        return "loses, reported"

    def read(self, server):
        """Rows lost, and errors instead of answers. Raw rows, hours of cells, PromQL."""
        lost, errors = 0, []
        for db, rows in (("default", self.rows), ("other", self.rows[:10])):
            want = wanted(self.base_ms, rows)
            for index, field in enumerate(FIELDS):
                found, error = self.select(server, f"SELECT {field} FROM m GROUP BY host", db)
                errors += error
                for host, series in found:
                    for at_ms, value in series:
                        is_right = want.get((host, at_ms), [None] * 3)[index] == value
                        need(is_right, f"wrong value in {db}: {host} {at_ms} {field} {value}")
                missing = len(want) - sum(len(series) for _, series in found)
                lost = max(lost, 0 if error else missing)
            if db != "default":
                continue
            end_ms = self.base_ms + HOURS * 3_600_000
            for layer, width in (("1h", 3_600_000), ("5m", 300_000), ("1m", 60_000)):
                text = (
                    f"SELECT count(value), sum(value) FROM m WHERE time >= {self.base_ms}ms AND time < {end_ms}ms "
                    f"GROUP BY host, time({layer}) fill(none)"
                )
                found, error = self.select(server, text, db)
                errors += error
                sums = {}
                for (host, at_ms), (value, _, _) in want.items():
                    edge = at_ms // width * width
                    count, total = sums.get((host, edge), (0, 0))
                    sums[(host, edge)] = count + 1, total + value
                counted = 0
                for host, series in found:
                    for at_ms, count, total in series:
                        wished = sums[(host, at_ms)]
                        counted += count
                        is_right = count < wished[0] or (count, total) == wished
                        need(is_right, f"wrong cell of {layer}: {host} {at_ms} {count} {total}")
                if not error:
                    lost = max(lost, len(want) - counted)
        return lost, errors

    def select(self, server, text, db):
        status, answer = server.ask("GET", "/query", q=text, db=db, epoch="ms")
        result = json.loads(answer)
        error = result.get("error") or result["results"][0].get("error")
        if error:
            return [], [error]
        series = result["results"][0].get("series", [])
        return [(one["tags"]["host"], one["values"]) for one in series], []

    def write_behind(self, server):
        """What is acknowledged after the damage survives the next start."""
        lines = body(now_ms(), range(50)).replace("m,", "behind,")
        status, answer = server.ask("POST", "/write", lines, precision="ms")
        server.kill()
        if status != 204:
            need(self.is_named(answer), f"a write behind the damage answers {status} {answer}")
            return
        server = Server(self.data)
        rows = server.select("SELECT count(value) FROM behind")
        server.kill()
        need(rows and rows[0][1] == 50 * HOSTS, f"of {50 * HOSTS} rows acknowledged behind the damage there are {rows}")


def damage_rig(scratch, full):
    """A flip, a cut, an emptied or a deleted file: never a wrong value, a panic or a hang, no loss that nobody tells, a
    refusal names the file, and what is acknowledged behind the damage stays."""
    base = scratch / "base"
    base_ms, rows = template(base)
    outcomes, broken = Counter(), []
    for path in sorted(path for path in base.rglob("*") if path.is_file()):
        name = path.relative_to(base)
        for damage, content in damages(path, full):
            data = scratch / "data"
            shutil.copytree(base, data)
            (data / name).unlink()
            if content is not None:
                (data / name).write_bytes(content)
            try:
                outcome = Case(data, name, base_ms, rows).judge()
                need(name.suffix != ".log" or content or outcome == "refuses, named", f"{outcome} without a log file")
            except (Broken, OSError, http.client.HTTPException, ValueError, KeyError) as error:
                outcome = "broken"
                broken.append(f"{name} {damage}: {error!r}")
            finally:
                Server.end_all()
                shutil.rmtree(data)
            outcomes[outcome] += 1
    need(not broken, "\n".join(broken))
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    return f"{sum(outcomes.values())} cases: {told}; 0 wrong values, 0 rows lost that were acknowledged behind the damage"
