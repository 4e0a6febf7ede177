"""More rows than the server can take, and more than the memory it has been given holds."""

import http.client
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from rig import Group, Load, Server, Writer, check_files, need, now_ms


class Flood(Writer):
    """Sends large batches of wide rows without a pause, also while they are refused; a batch is a second of its series."""

    ROWS, FIELDS, PARTS = 1_000, 60, 100

    def __init__(self, name, base_ms, database="default"):
        super().__init__(name, base_ms)
        self.database = database
        values = random.Random(name)
        # Half are counters and half measured: what a segment of them takes is far less than what they take in memory.
        wide = lambda row: (f"f{n}={row * n if n % 2 else values.gauss(50, 9):.3f}" for n in range(self.FIELDS))
        self.rows = [(row % self.PARTS, ",".join(wide(row))) for row in range(self.ROWS)]
        self.unanswered = 0
        self.late = 0  # 503 without Retry-After

    def body(self, batch):
        first = batch * self.ROWS
        head, base_ms = f"flood,writer={self.name},part=", self.base_ms + first
        rows = (f"{head}{part} value={first + row}i,{wide} {base_ms + row}" for row, (part, wide) in enumerate(self.rows))
        return "\n".join(rows)

    def run(self, address):
        while not self.is_stopped:
            batch, self.next = self.next, self.next + 1
            try:
                connection = http.client.HTTPConnection(address, timeout=30)
                connection.request("POST", f"/write?precision=ms&db={self.database}", self.body(batch))
                response = connection.getresponse()
                answer = response.read().decode()
                if response.status == 204:
                    self.acked.append((batch, time.monotonic()))
                else:
                    text = f"{response.status} {answer[:200].strip()}"
                    self.refused[text] = self.refused.get(text, 0) + 1
                    self.late += response.status == 503 and response.getheader("Retry-After") is None
            except (OSError, http.client.HTTPException):
                self.unanswered += 1  # refused while it was sent, or the server is gone: attempted, never sent again
                time.sleep(0.01)
            finally:
                connection.close()

    def verify(self, server, acked):
        """As of any writer, but told by count and sum of each batch: there are too many rows to read them all."""
        found, step = {}, 2_000
        for start in range(0, self.next, step):
            times = [f"{self.base_ms + batch * self.ROWS}ms" for batch in (start, start + step)]
            found |= self.read(server, f"time >= {times[0]} AND time < {times[1]}")
        for batch, (rows, last_rows, total) in found.items():
            first = batch * self.ROWS
            need(rows == last_rows == self.ROWS, f"{self.name}: batch {batch} has {rows} rows of {self.ROWS}")
            need(total == self.ROWS * first + self.ROWS * (self.ROWS - 1) // 2, f"{self.name}: batch {batch} is wrong")
            need(batch < self.next, f"{self.name}: batch {batch} was never sent")
        return sum(batch not in found for batch in acked)

    def read(self, server, times):
        """Rows, values of the last field and sum of the values, by batch."""
        rows = server.select(
            f"SELECT count(value), count(f{self.FIELDS - 1}), sum(value) FROM flood "
            f"WHERE writer = '{self.name}' AND {times} GROUP BY time({self.ROWS}ms) fill(none)",
            self.database,
        )
        return {(at_ms - self.base_ms) // self.ROWS: counts for at_ms, *counts in rows if counts[0]}


def overload_rig(scratch, full):
    """More rows than the engine can take, for ten minutes: the excess is refused with 503 and Retry-After, memory stays
    under the cap and flat (the most of the last third of the time is at most 1.1 times that of the middle third), writes
    are taken again when it is over, and nothing that was acknowledged is lost, also when it ends with SIGKILL."""
    cap_mib, seconds = 256, 600 if full else 18
    group = Group(cap_mib, core_percent=50)  # a slow engine: the senders, on the rest of the machine, are faster
    data, load = scratch / "data", Load(now_ms(), writers=0)
    try:
        base_ms = (now_ms() - 12 * 3_600_000) // 1_000 * 1_000
        load.writers = [Flood(f"w{number}", base_ms) for number in range(24)]
        start = lambda: Server(data, before=group.enter)
        server = start()
        load.start(server, flush_every_s=None)
        rss = sample_rss(server, seconds)
        load.end()
        resumed_s = seconds_until_taken(server)
        need(max(rss) <= cap_mib, f"{max(rss):.0f} MiB resident")
        middle, last = max(rss[seconds // 3 : 2 * seconds // 3]), max(rss[2 * seconds // 3 :])
        # In the short form the memtables have not been full often enough to tell.
        need(not full or last <= 1.1 * middle, f"memory grows: {middle:.0f} MiB in the middle third, {last:.0f} in the last")
        need_refusals(load)
        load.start(server, flush_every_s=None)
        sample_rss(server, 3)
        server.kill()
        load.end()
        peak = peak_of_restart(start, load, data)
        refused = sum(sum(writer.refused.values()) for writer in load.writers)
        unanswered = sum(writer.unanswered for writer in load.writers)
        return (
            f"{seconds} s, {load.count()} batches of {Flood.ROWS} rows acknowledged, {refused} refused with 503, "
            f"{unanswered} unanswered, 0 lost; at most {max(rss):.0f} of {cap_mib} MiB, {middle:.0f} in the middle "
            f"third, {last:.0f} in the last, {peak:.0f} after the restart; writes taken again after {resumed_s:.1f} s"
        )
    finally:
        load.end()
        Server.end_all()
        group.close()


def peak_of_restart(start, load, data):
    """Resident memory of the next start, which has all that was acknowledged."""
    server = start()
    lost = load.lost(server)
    peak = server.rss_peak_mib()
    server.stop()
    check_files(data)
    need(lost == 0, f"{lost} acknowledged batches lost")
    return peak


def sample_rss(server, seconds):
    """Resident memory, once a second."""
    rss = []
    for _ in range(seconds):
        time.sleep(1)
        need(server.is_alive(), f"the server ended: {server.tail()}")
        rss.append(server.memory_mib("VmRSS"))
    return rss


def seconds_until_taken(server):
    start_s = time.monotonic()
    while server.ask("POST", "/write", "other value=1i")[0] != 204:
        need(time.monotonic() - start_s < 5, "writes did not resume in 5 s")
        time.sleep(0.1)
    return time.monotonic() - start_s


def need_refusals(load):
    """Overload must have been: some were refused, all of them with 503 and when to come again, and some were taken."""
    refused = {text for writer in load.writers for text in writer.refused}
    need(refused, "no write was refused: this was no overload")
    need(all(text.startswith("503 ") for text in refused), f"refused otherwise than with 503: {refused}")
    need(not any(writer.late for writer in load.writers), f"503 without Retry-After: {refused}")
    need(all(writer.acked for writer in load.writers), "some writer was never acknowledged")


def databases_rig(scratch, full):
    """More rows than the engine can take, each sender's to a database of its own: memory stays under the cap, as with one
    database, and nothing that was acknowledged is lost when it ends with SIGKILL."""
    cap_mib, seconds, databases = 256, 120 if full else 18, 32
    group = Group(cap_mib, core_percent=50)
    data, load = scratch / "data", Load(now_ms(), writers=0)
    try:
        base_ms = (now_ms() - 12 * 3_600_000) // 1_000 * 1_000
        load.writers = [Flood(f"w{number}", base_ms, f"d{number}") for number in range(databases)]
        start = lambda: Server(data, before=group.enter)
        server = start()
        for writer in load.writers:
            status, body = server.ask("POST", "/query", q=f"CREATE DATABASE {writer.database}")
            need(status == 200, f"a database cannot be made: {status} {body[:300]}")
        load.start(server, flush_every_s=None)
        rss = sample_rss(server, seconds)
        server.kill()
        load.end()
        need(max(rss) <= cap_mib, f"{max(rss):.0f} MiB resident")
        need(all(writer.acked for writer in load.writers), "some writer was never acknowledged")
        refused = {text for writer in load.writers for text in writer.refused}
        need(all(text.startswith("503 ") for text in refused), f"refused otherwise than with 503: {refused}")
        need(not any(writer.late for writer in load.writers), f"503 without Retry-After: {refused}")
        peak = peak_of_restart(start, load, data)
        count = sum(sum(writer.refused.values()) for writer in load.writers)
        return (
            f"{seconds} s, {load.count()} batches of {Flood.ROWS} rows in {databases} databases acknowledged, {count} refused "
            f"with 503, 0 lost; at most {max(rss):.0f} of {cap_mib} MiB, {peak:.0f} after the restart"
        )
    finally:
        load.end()
        Server.end_all()
        group.close()


class Namer(Writer):
    """Sends batches of rows whose names were never seen before: of one kind, as many and as long as are taken."""

    KINDS = {
        "series": (2_000, lambda name: f"many,host={name},region=r{len(name)} value=1i"),
        "measurements": (2_000, lambda name: f"m{name} value=1i"),
        "fields": (50, lambda name: f"m{name} " + ",".join(f"f{field}=1" for field in range(100))),
        "tag keys": (50, lambda name: f"many,{','.join(f't{name}_{key}=x' for key in range(100))} value=1i"),
        "long values": (30, lambda name: f"many,id={name},long={random.randbytes(15_000).hex()} value=1i"),
        "long fields": (30, lambda name: f"m{name} " + ",".join(f"{random.randbytes(5_000).hex()}=1" for _ in range(3))),
    }

    def __init__(self, name, kind):
        super().__init__(name, 0)
        self.rows, self.line = self.KINDS[kind]
        self.taken, self.known = 0, None

    def run(self, server):
        while not self.is_stopped:
            batch, self.next = self.next, self.next + 1
            body = "\n".join(self.line(f"{self.name}_{batch}_{row}") for row in range(self.rows))
            self.known = self.known or body.split("\n")[0]
            try:
                status, answer = server.ask("POST", "/write", body)
            except (OSError, http.client.HTTPException):
                need(server.is_alive(), f"the server ended: {server.tail()}")
                continue  # refused while it was sent: attempted
            written = re.search(r"written=(\d+) ", answer)
            self.taken += self.rows if status == 204 else int(written[1]) if written else 0
            if status != 204:
                limit = re.search(r"limit (\w+_max)", answer)
                text = f"{status} {limit[1] if limit else answer[:200]}"
                self.refused[text] = self.refused.get(text, 0) + 1
                time.sleep(0.01)


def names_rig(scratch, full):
    """New names all the time, in 512 MiB: they are refused before the memory is used up, which is 503 with memtables and
    400 with names, and the server starts inside the cap again, with what it took."""
    return "; ".join(new_names(scratch / str(number), kind, full) for number, kind in enumerate(Namer.KINDS))


def new_names(data, kind, full):
    cap_mib, seconds = 512, 25 if full else 3
    group = Group(cap_mib)
    try:
        server = Server(data, before=group.enter)
        writers = [Namer(f"w{number}", kind) for number in range(4)]
        with ThreadPoolExecutor(len(writers)) as pool:
            running = [pool.submit(writer.run, server) for writer in writers]
            try:
                rss = sample_rss(server, seconds)
            finally:
                for writer in writers:
                    writer.is_stopped = True
            for one in running:
                one.result()
        need(max(rss) <= cap_mib, f"{kind}: {max(rss):.0f} MiB resident")
        status, answer = server.ask("POST", "/write", writers[0].known)
        need(status == 204, f"{kind}: a row of known names answers {status} {answer}")
        taken, refused = sum(writer.taken for writer in writers), Counter()
        for writer in writers:
            refused.update(writer.refused)
        server.kill()
        server = Server(data, before=group.enter)
        found = server.select("SHOW SERIES CARDINALITY")[0][-1]  # each row is a series of its own
        need(taken <= found, f"{kind}: {found} of {taken} rows acknowledged")
        peak = server.rss_peak_mib()
        server.stop()
        if full:
            check_files(data)
        told = ", ".join(f"{count} {text}" for text, count in refused.items()) or "none refused"
        return f"{kind}: {taken} rows taken, {told}, at most {max(rss):.0f} MiB, {peak:.0f} after {server.start_s:.1f} s of start"
    finally:
        Server.end_all()
        group.close()
