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
    sub = st.builds("{}(({})[{}:{}])".format, st.sampled_from(names), of, DURATIONS, st.sampled_from(["1m", "5m", "30s", "1h", "1y", "0s"]))
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
FIELDS = st.sampled_from(["latency_ms", "errors", "latency_ms", "errors", "note", "service", "nosuch", '"latency_ms"', "value", "note::field", "service::tag", "time"])
AGGREGATES = st.sampled_from([
    "count", "sum", "min", "max", "spread", "mean", "stddev", "first", "last", "median", "p50", "p99", "distinct", "uniq", "mode", "integral", "error_rate",
])
NUMBERS = st.sampled_from(["2", "3", "5", "99.9", "100", "2", "3", "5", "0", "-2", "9223372036854775807"])
# Functions with a number or a duration beside their column.
LONGER = st.sampled_from([
    "percentile({}, {})", "top({}, {})", "bottom({}, {})", "sample({}, {})", "moving_average({}, {})", "fraction_le({}, {})", "apdex({}, {})",
    "pow({}, {})", "log({}, {})", "atan2({}, {})",
])
UNITS = st.sampled_from(["1s", "30s", "1m", "1h", "1ns", "0s", "10000w"])
CALLS = st.one_of(
    st.builds("{}({})".format, AGGREGATES, FIELDS),
    st.builds(lambda form, field, number: form.format(field, number), LONGER, FIELDS, NUMBERS),
    st.builds("{}({}, {})".format, st.sampled_from(["integral", "elapsed", "derivative", "uptime", "downtime"]), FIELDS, UNITS),
)
TRANSFORMS = st.sampled_from([
    "derivative({})", "non_negative_derivative({}, 1m)", "difference({})", "non_negative_difference({})", "moving_average({}, 3)", "cumulative_sum({})",
    "elapsed({}, 1s)", "abs({})", "ln({})", "round({})", "sqrt({})",
])
COLUMNS = st.recursive(
    FIELDS
    | st.sampled_from(["*", "mean(*)", "max(/lat.*/)", "count(distinct(note))", "top(latency_ms, service, 2)", "2", "-1.5"])
    | CALLS
    | st.builds(lambda form, call: form.format(call), TRANSFORMS, CALLS | FIELDS),
    lambda of: st.builds("({} {} {})".format, of, st.sampled_from("+-*/%"), of),
    max_leaves=3,
)
COLUMNS |= st.builds("{} AS {}".format, COLUMNS, st.sampled_from(["a", '"b c"', "time"]))
BOUNDS = st.one_of(
    st.integers(NOW_S - 4000, NOW_S + 100).map("{}s".format),
    st.sampled_from(["now()", "now() - 1h", "now() + 1w", "0", "-9223372036854775808", "9223372036854775807", "'2026-01-31'", "'1677-09-21T00:12:43Z'", "99999w"]),
)
CONDITIONS = st.recursive(
    st.builds("time {} {}".format, st.sampled_from([">", ">=", "<", "<=", "=", "!="]), BOUNDS)
    | st.builds("{} {} {}".format, FIELDS, st.sampled_from(["=", "!=", "<", ">="]), st.sampled_from(["'pay'", "5", "1000000000000000000000", "true", "''", "latency_ms"]))
    | st.builds("{} {} /{}/".format, FIELDS, st.sampled_from(["=~", "!~"]), st.sampled_from(["p.*", "[a-z]+", "(a|p).y", "[^c]", "(a|b){1,3}", "\\d"]))
    | st.sampled_from(["service IN ('pay', 'cart')", "errors NOT IN (1, 2)", "note LIKE 'n1%'", "service NOT LIKE '_a%'", "latency_ms > 3"]),
    lambda of: st.builds("({} {} {})".format, of, st.sampled_from(["AND", "OR"]), of) | st.builds("NOT {}".format, of),
    max_leaves=4,
)
WIDTHS = st.sampled_from(["1s", "30s", "5m", "1h", "1d", "1ns", "0s", "7m, 1m", "1h, -30m", "10000w"])
SOURCES = st.sampled_from(["requests", "requests, sizes", "/req.*/", "nosuch", '"default".autogen.requests', "sizes"])


def part(text, of):
    return st.just("") | st.builds(text.format, of)


def select(of):
    return st.builds(
        "SELECT {} FROM {}{}{}{}{}{}{}".format,
        st.lists(COLUMNS, min_size=1, max_size=3).map(", ".join),
        of,
        part(" WHERE {}", CONDITIONS),
        part(" GROUP BY {}", st.sampled_from(["*", "service", "/s.*/", "nosuch"]) | WIDTHS.map("time({})".format) | WIDTHS.map("time({}), service".format)),
        part(" fill({})", st.sampled_from(["null", "none", "previous", "linear", "0", "-1.5"])),
        part(" HAVING {}", st.builds("{} > {}".format, CALLS | st.just("a"), NUMBERS)),
        part(" ORDER BY {}", st.sampled_from(["time ASC", "time DESC", "latency_ms", "a DESC, time", "max DESC", "nosuch"])),
        part(" {}", st.sampled_from(["LIMIT 3", "LIMIT 0", "OFFSET 2", "LIMIT 2 OFFSET 1 SLIMIT 1 SOFFSET 1", "LIMIT 9223372036854775807", "OFFSET 9223372036854775807"])),
    )


SELECTS = st.recursive(select(SOURCES), lambda of: select(of.map("({})".format)), max_leaves=3)
EXPLAINS = st.builds("{}{}".format, st.sampled_from(["EXPLAIN ", "EXPLAIN ANALYZE "]), SELECTS)
SHOWS = st.builds(
    "SHOW {}{}{}".format,
    st.sampled_from(["DATABASES", "MEASUREMENTS", "TAG KEYS", "FIELD KEYS", "SERIES", "RETENTION POLICIES", "TAG VALUES WITH KEY = service",
                     "TAG VALUES FROM /.*/ WITH KEY =~ /s/", "MEASUREMENTS WITH MEASUREMENT =~ /r/", "SERIES FROM requests, sizes"]),
    part(" WHERE {}", CONDITIONS),
    part(" LIMIT {}", st.integers(0, 3)),
)
OTHERS = st.sampled_from([
    "CREATE DATABASE other", "DROP DATABASE other", "DELETE FROM requests WHERE service = 'gone'", "DROP SERIES FROM requests WHERE service = 'gone'",
    "DELETE FROM /odd/ WHERE time < now()", "DROP MEASUREMENT nosuch", "SELECT",
])
STATEMENTS = st.lists(SELECTS | SELECTS | SHOWS | EXPLAINS | OTHERS, min_size=1, max_size=2).map("; ".join)
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
EVENTS = st.lists(st.sampled_from([
    '{"measurement":"logins","service":"web","ms":12.5,"user":"u1"}',
    f'{{"measurement":"logins","tags":{{"service":"web"}},"fields":{{"ms":1}},"time":{NOW_S},"id":"e-1"}}',
    '{"measurement":"logins","nested":{"a":{"b":[1,null,true]}},"time":"2026-01-31T12:00:00Z"}',
    '{"service":"web"}', "{}", "[]", "[1]", "null", '{"a":', '{"measurement":"logins","ms":"text","ms":1e999}',
]) | st.text(max_size=20), max_size=4).map(lambda lines: "\n".join(lines).encode())
schemathesis.openapi.media_type("application/x-ndjson", EVENTS)

BODIES = st.one_of(PROTOBUF.map(snappy), PROTOBUF, st.binary(max_size=30))
schemathesis.openapi.media_type("application/x-protobuf", BODIES)
schemathesis.openapi.media_type("application/x-protobuf;proto=io.prometheus.write.v2.Request", BODIES)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Time runs out on purpose for nobody: that is a 503, which counts as a failure here. A document a line under the type of
    one, as InfluxDB has it, is no JSON here. And most databases are there."""
    query = case.query or {}
    query.pop("chunked", None)
    if re.fullmatch(r"[0-9.e-]+(ms|s)?", str(query.get("timeout", ""))):
        query["timeout"] = "30s"
    if len(str(query.get("db", ""))) > 2:
        query["db"] = "default"
