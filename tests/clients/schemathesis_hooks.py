"""What schemathesis sends where the description names a format: texts that are valid more often than not, so that requests
get past the parsers, and any text beside them. Loaded by `schemathesis` (SCHEMATHESIS_HOOKS); knows the rows that it wrote."""

import re
import struct
import time

import schemathesis
from hypothesis import strategies as st

from wire import snappy, varint

NOW_S = int(time.time())

SELECTORS = st.sampled_from([
    "requests_latency_ms",
    'requests_latency_ms{service="pay"}',
    'requests_latency_ms{service=~"c.*|p.*"}',
    'requests_errors{service!="cart"}',
    'requests_latency_ms{__stat__="hist"}',
    'requests_latency_ms{__stat__="p99"}',
    '{__name__=~"requests_.*"}',
    "sizes",
    "nosuch",
    "up",
])
SCALARS = st.sampled_from(["0", "1", "-1.5", "NaN", "Inf", "1e308", "0x1f", "time()", "1h30m", "scalar(up)", "pi()"])
DURATIONS = st.sampled_from(["1m", "5m", "1h", "1s", "1d", "1y", "7ms", "100y", "0s"])


def ranges(of):
    names = ["rate", "increase", "sum_over_time", "count_over_time", "max_over_time", "avg_over_time", "stddev_over_time",
             "last_over_time", "changes", "resets", "deriv", "absent_over_time", "present_over_time", "mad_over_time"]
    plain = st.builds("{}({}[{}])".format, st.sampled_from(names), SELECTORS, DURATIONS)
    sub = st.builds("{}(({})[{}:{}])".format, st.sampled_from(names), of, DURATIONS, DURATIONS)
    quantile = st.builds("quantile_over_time({},{}[{}])".format, SCALARS, SELECTORS, DURATIONS)
    return plain | sub | quantile


def above(of):
    unary = ["sum", "sum by (service)", "count without (service)", "topk(2,", "quantile(0.9,", "abs", "sort_desc", "-", "absent",
             "histogram_quantile(0.9,", 'count_values("v",', "stddev", "group", "clamp_min", "round", "timestamp", "info",
             'label_replace', "predict_linear", "limitk(1,", "histogram_avg", "vector", "scalar", "day_of_year"]

    def one(name, inner):
        return f"{name}{inner})" if name.endswith(",") else f"{name}({inner})"

    binary = st.builds("({} {} {})".format, of | SCALARS, st.sampled_from(
        ["+", "-", "*", "/", "%", "^", "==", "> bool", "<", "and", "or", "unless", "* on (service)", "/ ignoring (service) group_left ()", "atan2"]
    ), of | SCALARS)
    shifted = st.builds("{} {}".format, of, st.sampled_from(["offset 5m", "offset -1h", "@ 0", "@ end()", "@ start()", "offset 300y"]))
    return st.builds(one, st.sampled_from(unary), of) | binary | shifted | ranges(of)


PROMQL = st.recursive(SELECTORS | SCALARS, above, max_leaves=6)
STATEMENTS = st.sampled_from([
    "SELECT * FROM requests",
    "SELECT mean(latency_ms), p99(latency_ms) FROM requests WHERE time > now() - 1h GROUP BY time(5m), service fill(0)",
    "SELECT count(distinct(note)), uniq(note), first(note) FROM requests GROUP BY service",
    "SELECT latency_ms, note FROM requests WHERE service = 'pay' AND latency_ms > 50 ORDER BY time DESC LIMIT 3 OFFSET 1",
    "SELECT sum(latency_ms) / count(latency_ms) FROM requests GROUP BY time(1ns)",
    "SELECT mean(latency_ms) FROM requests WHERE time > 0 AND time < 9223372036854775807 GROUP BY time(1h)",
    "SELECT derivative(mean(latency_ms), 1s) FROM requests GROUP BY time(1m)",
    "SHOW DATABASES; SHOW MEASUREMENTS; SHOW TAG KEYS; SHOW FIELD KEYS; SHOW SERIES",
    "SHOW TAG VALUES FROM requests WITH KEY = service",
    "CREATE DATABASE other",
    "DELETE FROM requests WHERE service = 'gone'",
    "DROP SERIES FROM requests WHERE service = 'gone'",
    "DROP DATABASE other",
])
LINES = st.lists(st.sampled_from([
    "requests,service=cart latency_ms=10,note=\"a\"",
    f"requests,service=gone latency_ms=1i {NOW_S}000000000",
    "sizes value=7u",
    "odd,a\\ b=\\,c f=true,g=\"x\\\"y\"",
    "m,t= f=1",
    "m f=1 99999999999999999999",
    "m f=nan",
    "# a comment",
]) | st.text(max_size=40), max_size=5).map("\n".join)
TIMES = st.one_of(
    st.integers(NOW_S - 4000, NOW_S + 10).map(str),
    st.floats(NOW_S - 4000, NOW_S).map("{:.3f}".format),
    st.sampled_from(["0", "-1", "1e10", "9.2e9", "-9.2e9", "NaN", "2026-03-02T10:00:00Z", "1677-09-21T00:12:44Z", "2262-04-11T23:47:16Z", str(NOW_S)]),
)


def with_any(valid):
    return st.integers(0, 9).flatmap(lambda draw: st.text(max_size=30) if draw == 0 else valid)


for name, valid in (
    ("promql", PROMQL),
    ("promql-selector", SELECTORS),
    ("prometheus-time", TIMES),
    ("prometheus-duration", DURATIONS | st.floats(0.001, 1e9).map(str)),
    ("select", STATEMENTS),
    ("line-protocol", LINES),
):
    schemathesis.openapi.format(name, with_any(valid))


# Protobuf by hand: fields of any numbers and types, so that some are those of the message and many nest.


def any_field(number, kind, value):
    body = {0: lambda: varint(value), 1: lambda: struct.pack("<d", float(value)), 2: lambda: varint(len(value)) + value}[kind]()
    return varint(number << 3 | kind) + body


def message(inner):
    fields = st.one_of(
        st.builds(any_field, st.integers(1, 12), st.just(0), st.sampled_from([0, 1, 2, 7, NOW_S * 1000, 2**63, 2**64 - 1])),
        st.builds(any_field, st.integers(1, 12), st.just(1), st.floats()),
        st.builds(any_field, st.integers(1, 12), st.just(2), inner),
    )
    return st.lists(fields, max_size=5).map(b"".join)


TEXTS = st.sampled_from([b"__name__", b"up", b"", b"service", b"requests_latency_ms", b"\xff"]) | st.binary(max_size=8)
PROTOBUF = message(message(message(message(TEXTS) | TEXTS) | TEXTS) | TEXTS)
BODIES = st.one_of(PROTOBUF.map(snappy), PROTOBUF, st.binary(max_size=30))
schemathesis.openapi.media_type("application/x-protobuf", BODIES)
schemathesis.openapi.media_type("application/x-protobuf;proto=io.prometheus.write.v2.Request", BODIES)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Time runs out on purpose for nobody: that is a 503, which counts as a failure here."""
    if case.query and re.fullmatch(r"[0-9.e-]+(ms|s)?", str(case.query.get("timeout", ""))):
        case.query["timeout"] = "30s"
