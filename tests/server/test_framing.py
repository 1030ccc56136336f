"""Lines on a byte stream: cut where they end, bounded, and still answerable when they cannot be read."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as some

from server.framing import Lines, TooLong, error_line, salvaged_id


@given(some.lists(some.binary(min_size=1).filter(lambda line: b"\n" not in line and line.strip())), some.data())
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], data: some.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    reader, found, at = Lines(), [], 0
    while at < len(stream):
        size = data.draw(some.integers(1, len(stream) - at))
        found += list(reader.feed(stream[at : at + size]))
        at += size
    assert found == lines


def test_empty_lines_are_dropped_and_half_a_line_waits() -> None:
    reader = Lines()
    assert list(reader.feed(b"\n \r\n\none\nha")) == [b"one"]
    assert list(reader.feed(b"lf\n")) == [b"half"]


def test_a_line_over_the_limit_is_not_kept_but_its_ends_are() -> None:
    reader = Lines(limit=1000)
    found: list[bytes | TooLong] = []
    for _ in range(100):
        found += list(reader.feed(b"x" * 1000))
    found += list(reader.feed(b"the end\nnext\n"))
    first, second = found
    assert isinstance(first, TooLong)
    assert first.length == 100_007
    assert first.tail.endswith(b"the end")
    assert len(first.head) + len(first.tail) < 10_000
    assert second == b"next"


def test_the_id_is_found_wherever_an_sdk_writes_it() -> None:
    for line, wanted in (
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"id":9}}', 7),
        (b'{"method":"tools/call","params":{"id":9,"x":"y"},"jsonrpc":"2.0","id":"a-7"}', "a-7"),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"text":"\xff', 7),
        (b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"id":9}}', None),
        (b'{"jsonrpc":"2.0","id":7,"result":{}}', None),
        (b"\xff\xfe\x00", None),
    ):
        assert salvaged_id(line) == wanted, line


def test_the_id_of_an_oversized_message_is_found_too() -> None:
    for message in (
        {"jsonrpc": "2.0", "id": 7, "method": "m", "params": {"text": "x" * 100_000}},
        {"method": "m", "params": {"text": "x" * 100_000}, "jsonrpc": "2.0", "id": 7},
    ):
        (line,) = Lines(limit=1000).feed(json.dumps(message).encode() + b"\n")
        assert salvaged_id(line) == 7


def test_an_error_is_one_line_of_json() -> None:
    line = error_line("a", -32001, "It\nbroke.", "Mend it.")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "jsonrpc": "2.0",
        "id": "a",
        "error": {"code": -32001, "message": "It\nbroke. Mend it."},
    }
