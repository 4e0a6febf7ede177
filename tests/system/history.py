"""What readers see while others write: every batch whole, and every batch that was acknowledged before the read began."""

import http.client
import json
import threading
import time

from rig import Server, need, now_ms

SERIES = 16  # of a batch, all of them new
BEHIND = 40  # batches that a read looks back


class Historian:
    """Writes batch after batch, each at a time of its own and of series that were not there before."""

    def __init__(self, name, base_ms):
        self.name, self.base_ms = name, base_ms
        self.acked = 0  # batches below this were acknowledged

    def run(self, server, is_over):
        connection = http.client.HTTPConnection(server.address, timeout=30)
        while not is_over.is_set():
            batch = self.acked
            lines = (
                f"history,writer={self.name},batch={batch},part={part} value={batch}i {self.base_ms + 1_000 * batch}"
                for part in range(SERIES)
            )
            connection.request("POST", "/write?precision=ms", "\n".join(lines))
            response = connection.getresponse()
            text = response.read().decode()
            need(response.status == 204, f"a write answers {response.status} {text}")
            self.acked = batch + 1
        connection.close()

    def see(self, server, counts):
        """One read, by a way of counting; returns how many batches it saw."""
        acked = self.acked
        first = max(0, acked - BEHIND)
        found = counts(server, self, first)
        for batch, rows in found.items():
            need(rows == SERIES, f"{self.name}: batch {batch} is seen with {rows} rows of {SERIES}")
        missing = [batch for batch in range(first, acked) if batch not in found]
        need(not missing, f"{self.name}: batches {missing} of {acked} acknowledged are not seen by {counts.__name__}")
        return len(found)


def answer(server, path, **parameters):
    status, body = server.ask("GET", path, **parameters)
    need(status == 200, f"{parameters} answers {status} {body[:300]}")
    return json.loads(body)


def by_select(server, writer, first):
    since = f"{writer.base_ms + 1_000 * first}ms"
    text = f"SELECT count(value) FROM history WHERE writer = '{writer.name}' AND time >= {since} GROUP BY batch"
    series = answer(server, "/query", q=text)["results"][0].get("series", [])
    return {int(one["tags"]["batch"]): one["values"][0][1] for one in series}


def by_rows(server, writer, first):
    since = f"{writer.base_ms + 1_000 * first}ms"
    rows = server.select(f"SELECT value FROM history WHERE writer = '{writer.name}' AND time >= {since}")
    found = {}
    for _, batch in rows:
        found[batch] = found.get(batch, 0) + 1
    return found


def by_promql(server, writer, first):
    # From the first batch asked for to what may have come meanwhile.
    text = f'count by (batch) (last_over_time(history{{writer="{writer.name}"}}[300s]))'
    at_s = (writer.base_ms + 1_000 * (first + 299)) / 1_000
    result = answer(server, "/api/v1/query", query=text, time=f"{at_s:.3f}")["data"]["result"]
    return {int(one["metric"]["batch"]): int(one["value"][1]) for one in result}


def history_rig(scratch, full):
    """T19 from the outside: 4 writers of new series, a reader each of SELECT, its rows and PromQL, and flushes: what was
    acknowledged before a read began is seen by it, and no batch by half."""
    server = Server(scratch / "data", arguments=["--retention", "forever"])
    writers = [Historian(f"w{number}", now_ms() - 10 * 3_600_000) for number in range(4)]
    is_over, failures, reads, seen = threading.Event(), [], [0], [0]

    def guarded(work):
        try:
            while not is_over.is_set():
                work()
        except Exception as failure:  # noqa: BLE001: handed over below
            failures.append(failure)
            is_over.set()

    def read(counts):
        for writer in writers:
            seen[0] += writer.see(server, counts)
            reads[0] += 1

    def flush():
        time.sleep(0.2)
        server.ask("POST", "/api/v1/admin/flush", compact="true")

    works = [lambda writer=writer: writer.run(server, is_over) for writer in writers]
    works += [lambda counts=counts: read(counts) for counts in (by_select, by_rows, by_promql)] + [flush]
    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    is_over.wait(60 if full else 5)
    is_over.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    batches = sum(writer.acked for writer in writers)
    need(batches > 100 and reads[0] > 20, f"{batches} batches and {reads[0]} reads are no history")
    server.stop()
    return f"{batches} batches of {SERIES} new series, {reads[0]} reads saw {seen[0]} batches, all whole, none missing"
