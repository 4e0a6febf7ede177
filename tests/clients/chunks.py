"""Remote read in streamed chunks, asked and read by hand: protobuf, frames and XOR chunks as Prometheus' documents have
them. Knows nothing of what is asked."""

import struct
import urllib.request

from wire import varint


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def take_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def fields(data):
    """Numbers and values of a message of varints and bytes."""
    at = 0
    while at < len(data):
        tag, at = take_varint(data, at)
        value, at = take_varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        yield tag >> 3, value


def crc32c(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def xor_samples(data):
    """The samples of a chunk: milliseconds, and the bits of the value."""
    bits = int.from_bytes(data, "big")
    left = 8 * len(data)

    def take(width):
        nonlocal left
        left -= width
        return bits >> left & (1 << width) - 1

    def take_number():
        number = shift = 0
        while True:
            byte = take(8)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    samples, delta, leading, width = [], 0, 0, 0
    for index in range(take(16)):
        if index == 0:
            zigzag = take_number()
            samples.append((zigzag >> 1 ^ -(zigzag & 1), take(64)))
            continue
        if index == 1:
            delta = take_number()
        else:
            kind = 0
            while kind < 4 and take(1):
                kind += 1
            size = (0, 14, 17, 20, 64)[kind]
            change = take(size)
            delta += change - (1 << size) if size and change > 1 << size - 1 else change
        ms, value = samples[-1]
        if take(1):
            if take(1):
                leading, width = take(5), take(6) or 64
            value ^= take(width) << 64 - leading - width
        samples.append((ms + delta, value))
    return samples


def streamed(base, metric, start_ms, end_ms):
    """Series in the order of the answer, by the first request: labels, and the bytes of each chunk; and the content type."""
    matcher = field(1, 2) + field(2, b"__name__") + field(3, metric.encode())
    message = field(1, field(1, start_ms) + field(2, end_ms) + field(3, matcher)) + field(2, bytes([1, 0]))
    # A snappy block of one literal.
    block = varint(len(message)) + bytes([60 << 2, len(message) - 1]) + message
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "Accept-Encoding": "snappy",
        "X-Prometheus-Remote-Read-Version": "0.1.0",
    }
    request = urllib.request.Request(f"{base}/api/v1/read", block, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        content_type, data = answer.headers["Content-Type"], answer.read()
    series, at = [], 0
    while at < len(data):
        size, at = take_varint(data, at)
        (checksum,) = struct.unpack(">I", data[at : at + 4])
        frame, at = data[at + 4 : at + 4 + size], at + 4 + size
        if checksum != crc32c(frame):
            raise ValueError("the checksum of a frame is wrong")
        for number, value in fields(frame):
            if number != 1:
                continue
            labels, chunks = [], []
            for number, part in fields(value):
                found = dict(fields(part))
                if number == 1:
                    labels.append((found[1].decode(), found[2].decode()))
                elif found[3] == 1:
                    chunks.append(found[4])
            if series and series[-1][0] == labels:
                series[-1][1].extend(chunks)
            else:
                series.append((labels, chunks))
    return content_type, series
