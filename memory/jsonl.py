"""Packets as lines of JSON: a header, one line for each packet, and a last line that says how many there were.

The last line is what tells a whole file from one that was cut. Numbers of a vector are written with nine digits, which
is what a float32 needs to come back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from engine.errors import InvalidInput
from memory.bifocal import Header, Record, fields_of, head_json, head_of, record_of

LONGEST_LINE = 64 << 20
"""Bytes."""
BATCH = 500
CUT = "Copy or export it again; nothing of it was taken."


class LineSink:
    """Writes lines."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._written = 0
        file.write(head_json(header).encode() + b"\n")

    def write(self, records: Sequence[Record]) -> None:
        self._file.write("".join(_line(record) for record in records).encode())
        self._written += len(records)

    def close(self) -> None:
        self._file.write(json.dumps({"end": self._written}).encode() + b"\n")


def _line(record: Record) -> str:
    fields = fields_of(record)
    vector = fields.pop("vector")
    fields["time"] = fields["time"].isoformat()
    line = json.dumps(fields, ensure_ascii=False)
    if vector is not None:
        line = f'{line[:-1]}, "vector": [{", ".join(format(float(x), ".9g") for x in vector)}]}}'
    return line + "\n"


class LineSource:
    """Reads lines, never more than one batch of them at a time."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._header = head_of(self._read(1).decode("utf-8", "replace"), name)

    @property
    def header(self) -> Header:
        return self._header

    def batches(self) -> Iterator[list[Record]]:
        batch: list[Record] = []
        number, count = 1, 0
        while line := self._read(number := number + 1):
            if line.startswith(b'{"end"'):
                self._ended(line, count)
                yield batch
                return
            if not line.endswith(b"\n"):
                break
            batch.append(record_of(line, f"{self._name}, line {number}", self._header))
            count += 1
            if len(batch) == BATCH:
                yield batch
                batch = []
        raise InvalidInput(f"{self._name} breaks off after {count:,} packets: its last line is missing.", CUT)

    def close(self) -> None:
        self._file.close()

    def _read(self, number: int) -> bytes:
        line = self._file.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise InvalidInput(
                f"{self._name}, line {number}: longer than {LONGEST_LINE >> 20} MiB, which no packet is.",
                "`soul memory export FILE` makes files that can be read.",
            )
        return line

    def _ended(self, line: bytes, count: int) -> None:
        try:
            end: Any = json.loads(line)["end"]
        except (ValueError, TypeError):
            end = None
        if end != count or self._read(0).strip():
            raise InvalidInput(f"{self._name} holds {count:,} packets where its last line says {end}.", CUT)
