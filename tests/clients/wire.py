"""Remote write by hand: protobuf, in a snappy block of literals."""

import struct
import urllib.request

STALE = struct.pack("<Q", 0x7FF0000000000002)


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def label_bytes(labels):
    return b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in sorted(labels.items()))


def sample_bytes(at_ms, value):
    number = STALE if value == "stale" else struct.pack("<d", value)
    return field(2, b"\x09" + number + b"\x10" + varint(at_ms))


def snappy(body):
    out = [varint(len(body))]
    for begin in range(0, len(body), 65536):
        part = body[begin:begin + 65536]
        out.append(bytes((61 << 2,)) + struct.pack("<H", len(part) - 1) + part)
    return b"".join(out)


def send(bases, body):
    """A `WriteRequest` to each of the servers."""
    packed = snappy(body)
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
    for base in bases:
        request = urllib.request.Request(f"{base}/api/v1/write", packed, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
