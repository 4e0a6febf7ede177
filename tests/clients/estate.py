"""A small shop, the same by remote write to each server: counters, gauges, a classic histogram, labels beyond ASCII, NaN and
infinities, a series that ended."""

import math

from wire import field, label_bytes, sample_bytes, send

LENGTH_S = 1200
INTERVAL_S = 15


def series():
    """Labels, and the value of a step."""
    for number, instance in enumerate(("a:1", "b:1")):
        who = {"job": "shop", "instance": instance}
        for code, path, by in (("200", "/", 7), ("200", "/basket", 3), ("500", "/", 1)):
            labels = {"__name__": "shop_requests_total", **who, "code": code, "path": path}
            yield labels, lambda step, by=by, number=number: float((by + number) * (step % 50))
        for le, part in (("0.1", 1), ("0.5", 2), ("+Inf", 3)):
            yield {"__name__": "shop_seconds_bucket", **who, "le": le}, lambda step, part=part: float(part * step)
        yield {"__name__": "shop_seconds_count", **who}, lambda step: 3.0 * step
        yield {"__name__": "shop_seconds_sum", **who}, lambda step: 0.7 * step
        yield {"__name__": "up", **who}, lambda step: 1.0
    for room, of in (
        ("kitchen", lambda step: 20 + math.sin(step)),
        ("ünïcode ☃", lambda step: -1e17 * step),
        ('a "b" \\c', lambda step: 1e-7 * step),
        ("nan", lambda step: math.nan),
        ("inf", lambda step: math.inf),
    ):
        yield {"__name__": "shop_temperature", "room": room}, of
    yield {"__name__": "shop_gone"}, lambda step: float(step) if step < 20 else "stale" if step == 20 else None


def write(bases, end_s):
    """The steps up to `end_s`."""
    steps = LENGTH_S // INTERVAL_S
    body = b""
    for labels, value in series():
        values = ((end_s - (steps - 1 - step) * INTERVAL_S, value(step)) for step in range(steps))
        samples = b"".join(sample_bytes(at_s * 1000, value) for at_s, value in values if value is not None)
        body += field(1, label_bytes(labels) + samples)
    send(bases, body)
