"""Clients that are slow on purpose: heads and bodies that never come to their end, answers that nobody takes."""

import http.client
import socket
import statistics
import struct
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from rig import Server, need, now_ms, seconds_ago

READERS, ROWS, SERIES = 50, 60_000, 20
GROWTH_MAX_MIB = 64


def slow_rig(scratch, full):
    """T12: 200 slow heads are closed after 10 s, 50 slow bodies keep no writer waiting, and 50 readers of 60,000 rows
    that take nothing cost at most 64 MiB, whatever they ask; others are answered meanwhile."""
    server = Server(scratch / "data", arguments=["--retention", "forever"])
    fill(server)
    with ThreadPoolExecutor(1) as pool:
        heads = pool.submit(slow_heads, server)
        texts = [slow_bodies(server, rounds=9 if full else 3), heads.result()]
    server.stop()
    for name, path, parameters in reads():
        # A server for each: what one kind of answer leaves behind must not hide what the next takes.
        server = Server(scratch / "data", arguments=["--retention", "forever"])
        texts.append(slow_readers(server, name, path, parameters))
        need(server.is_alive(), f"the server ended: {server.tail()}")
        server.stop()
    return "; ".join(texts)


def fill(server):
    """60,000 rows of 20 series, a second apart."""
    per_series = ROWS // SERIES
    base_ms = now_ms() // 1_000 * 1_000
    for part in range(0, per_series, 500):
        lines = (
            f"slow,id=s{series:02} value={row * 37 % 1_000 / 8} {base_ms + row * 1_000}"
            for row in range(part, part + 500)
            for series in range(SERIES)
        )
        status, body = server.ask("POST", "/write", "\n".join(lines), precision="ms")
        need(status == 204, f"a write answers {status} {body}")


def connect(server):
    host, port = server.address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def slow_heads(server):
    """A byte a second of 200 heads: each is closed 10 s after it began."""
    clients = []
    for _ in range(200):
        client = connect(server)
        client.sendall(b"POST /write HTTP/1.1\r\nX: ")
        client.setblocking(False)
        clients.append((client, time.monotonic()))
    closed_s = []
    while clients and time.monotonic() - clients[-1][1] < 15:
        time.sleep(0.1)
        open_still = []
        for client, since_s in clients:
            try:
                while client.recv(1_000):
                    pass
                closed_s.append(time.monotonic() - since_s)
                client.close()
                continue
            except BlockingIOError:
                pass
            except OSError:
                closed_s.append(time.monotonic() - since_s)
                continue
            if int(time.monotonic() * 10) % 10 == 0:
                try:
                    client.send(b"x")
                except OSError:
                    pass
            open_still.append((client, since_s))
        clients = open_still
    need(not clients, f"{len(clients)} of 200 slow heads are open after 15 s")
    first, last = min(closed_s), max(closed_s)
    need(9 <= first and last <= 11, f"slow heads are closed after {first:.1f} to {last:.1f} s")
    return f"200 heads closed after {first:.1f} to {last:.1f} s"


def slow_bodies(server, rounds):
    """p99 of ordinary writes, without and with 50 bodies that come by the byte; the median of several rounds of each."""
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(write_p99_ms(server))
        clients = [connect(server) for _ in range(50)]
        for client in clients:
            client.sendall(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nm")
        is_over = threading.Event()
        dripping = threading.Thread(target=drip, args=[clients, is_over])
        dripping.start()
        beside.append(write_p99_ms(server))
        is_over.set()
        dripping.join()
        for client in clients:
            client.close()
    alone_ms, beside_ms = statistics.median(alone), statistics.median(beside)
    # Two milliseconds are the noise of a machine that does other things.
    need(beside_ms <= 2 * alone_ms + 2, f"p99 of writes {alone_ms:.1f} ms, beside slow bodies {beside_ms:.1f} ms")
    return f"p99 of writes {alone_ms:.1f} ms alone, {beside_ms:.1f} ms beside 50 slow bodies"


def drip(clients, is_over):
    while not is_over.wait(0.1):
        for client in clients:
            try:
                client.send(b"x")
            except OSError:
                pass


def write_p99_ms(server, seconds=1):
    """Four writers of small batches for some seconds."""
    took = []

    def write(name):
        connection = http.client.HTTPConnection(server.address, timeout=30)
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            start_s = time.monotonic()
            connection.request("POST", "/write", f"ordinary,writer={name} value=1")
            response = connection.getresponse()
            response.read()
            need(response.status == 204, f"a write answers {response.status}")
            took.append(time.monotonic() - start_s)
        connection.close()

    threads = [threading.Thread(target=write, args=[f"w{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(took)[len(took) * 99 // 100] * 1_000


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def tagged(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def remote_read(accepted):
    """A request of the metric's samples of the last two hours, as one literal of snappy."""
    matcher = tagged(2, b"__name__") + tagged(3, b"slow")
    end_ms = int(time.time() * 1000)
    query = b"\x08" + varint(end_ms - 7_200_000) + b"\x10" + varint(end_ms) + tagged(3, matcher)
    message = tagged(1, query) + b"".join(b"\x10" + varint(kind) for kind in accepted)
    return varint(len(message)) + b"\xf0" + struct.pack("B", len(message) - 1) + message


def reads():
    """Requests whose answers are long: name, path, and parameters or a body."""
    grid = {"start": seconds_ago(3_600), "end": seconds_ago(600), "step": "1"}
    return [
        ("SELECT", "/query", {"q": "SELECT value FROM slow"}),
        ("SELECT by chunks", "/query", {"q": "SELECT value FROM slow GROUP BY id", "chunked": "true"}),
        ("SELECT as CSV", "/query", {"q": "SELECT value FROM slow", "format": "csv"}),
        ("PromQL over a range", "/api/v1/query_range", {"query": "slow", **grid}),
        ("PromQL's samples", "/api/v1/query", {"query": "slow[2h]"}),
        ("remote read, samples", "/api/v1/read", remote_read([0])),
        ("remote read, streamed", "/api/v1/read", remote_read([1])),
    ]


def request(path, asked):
    """As it stands on the wire: a GET with parameters, or a POST with a snappy block."""
    if isinstance(asked, dict):
        return f"GET {path}?{urllib.parse.urlencode(asked)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    kind = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {len(asked)}\r\n\r\n".encode() + asked


def slow_readers(server, name, path, parameters):
    """Growth of memory by 50 readers that take nothing of their answers."""
    head = request(path, parameters)
    bytes_whole = take_whole(server, head)
    before_mib = server.memory_mib("VmRSS")
    clients = []
    for _ in range(READERS):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        host, port = server.address.split(":")
        client.settimeout(30)
        client.connect((host, int(port)))
        client.sendall(head)
        clients.append(client)
    statuses = [client.recv(12)[9:12].decode() for client in clients]
    time.sleep(1)
    need(all(status in ("200", "422", "429", "503") for status in statuses), f"{name}: answers {set(statuses)}")
    took = statuses.count("200")
    need(took > 0, f"{name}: none of {READERS} readers was answered")
    growth_mib = server.rss_peak_mib() - before_mib
    start_s = time.monotonic()
    status, body = server.ask("GET", "/api/v1/query", query="1 + 1")
    small_s = time.monotonic() - start_s
    need(status == 200, f"{name}: beside slow readers a small query answers {status} {body[:200]}")
    status, body = server.ask("POST", "/write", "ordinary value=1")
    need(status == 204, f"{name}: beside slow readers a write answers {status} {body[:200]}")
    for client in clients:
        client.close()
    answers = f"{growth_mib:.0f} MiB for {took} answers of {bytes_whole / 2**20:.1f} MiB"
    need(growth_mib <= GROWTH_MAX_MIB, f"{name}: {answers}")
    return f"{name}: {answers}, {READERS - took} refused, 1+1 in {small_s * 1_000:.0f} ms"


def take_whole(server, head):
    """Asks once and takes all; the length of the answer."""
    client = connect(server)
    client.sendall(head.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
    length, first = 0, b""
    while part := client.recv(1 << 16):
        first = first or part
        length += len(part)
    need(first.startswith(b"HTTP/1.1 200") and length > 100_000, f"asked alone, {length} bytes: {first[:500]}")
    return length
