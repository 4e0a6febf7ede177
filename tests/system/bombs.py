"""Bodies that are small on the wire and would be large when unfolded, sent to the release binary."""

import gzip
import time

from rig import Server, need

REFUSED_MAX_S = 0.2
# What a body may unfold to with this memory, and 8 MiB.
MEMORY, GROWTH_MAX_MIB = "1G", 64 + 8
TRIES = 3  # the best counts: the machine does other things, too


def bombs():
    """Name, encoding, body and the status that it must get, the smallest first."""
    mib = gzip.compress(b"\n" * 2**20)
    small, large = gzip.compress(b"\n" * (16 * 2**20)), mib * 512
    chained = gzip.compress(large)
    return [
        ("zstd", "zstd", small, 415),
        ("snappy", "snappy", small, 415),
        ("br", "br", small, 415),
        ("gzip, gzip", "gzip, gzip", chained, 415),
        ("16 MiB", "gzip", small, 413),
        ("512 MiB", "gzip", large, 413),
    ]


def bombs_rig(scratch, _full):
    """T13: bombs and chained encodings are refused in 200 ms, in at most 8 MiB more than a body may have."""
    texts = []
    for name, encoding, body, wanted in bombs():
        # A server for each, so that what one took is not hidden by what another left.
        server = Server(scratch / name.replace(" ", "-"), arguments=["--memory", MEMORY])
        before_mib = server.rss_peak_mib()
        took_s = [refused_s(server, name, encoding, body, wanted) for _ in range(TRIES)]
        growth_mib = server.rss_peak_mib() - before_mib
        figures = f"{len(body) / 1024:.0f} KiB, {name}: {wanted} in {min(took_s) * 1_000:.0f} ms, {growth_mib:.1f} MiB more"
        need(min(took_s) <= REFUSED_MAX_S and growth_mib <= GROWTH_MAX_MIB, f"too much: {figures}")
        texts.append(figures)
        status, answer = server.ask("POST", "/write", "ordinary value=1")
        need(status == 204, f"{name}: a write afterwards answers {status} {answer[:200]}")
        server.stop()
        need(not server.warnings(), f"{name}: {server.warnings()[:5]}")
    return "; ".join(texts)


def refused_s(server, name, encoding, body, wanted):
    start_s = time.monotonic()
    status, answer, _ = server.ask_whole("POST", "/write", body, {"Content-Encoding": encoding})
    took_s = time.monotonic() - start_s
    need(status == wanted, f"{name}: answers {status} {answer[:200]}")
    return took_s
