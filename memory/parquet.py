"""Packets as a Parquet file, which pandas, DuckDB and Arrow read: vectors are lists of float32, metadata is JSON text.

Needs pyarrow, an extra. The header stands in the file's own metadata under `soul`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from engine.errors import InvalidInput, MissingExtra
from memory.bifocal import Header, Record, fields_of, head_json, head_of, record_of

KEY = b"soul"
BATCH = 500
ROW_GROUP = 5_000
"""Packets that are compressed together; so many are held in memory."""


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra(
            "Parquet files need pyarrow, which is not installed.",
            "Install it with `pip install 'soul-mcp[parquet]'`, or name a file that ends in .jsonl.",
        ) from None
    return pyarrow, pyarrow.parquet


class ParquetSink:
    """Writes row groups."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        arrow, parquet = _arrow()
        text = arrow.string()
        self._schema = arrow.schema(
            [
                arrow.field("id", text, nullable=False),
                arrow.field("time", arrow.timestamp("us", tz="UTC"), nullable=False),
                ("agent", text),
                ("session", text),
                ("sequence", arrow.int32()),
                ("kind", text),
                ("prose", text),
                ("origin", text),
                ("resonance", arrow.float32()),
                ("generation", text),
                ("work_order", text),
                ("content_hash", text),
                ("metadata", text),
                ("vector", arrow.list_(arrow.float32())),
            ],
            {KEY: head_json(header).encode()},
        )
        self._arrow = arrow
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._held: list[dict[str, Any]] = []

    def write(self, records: Sequence[Record]) -> None:
        for record in records:
            fields = fields_of(record)
            self._held.append({**fields, "metadata": json.dumps(fields["metadata"], ensure_ascii=False)})
        if len(self._held) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(self._arrow.Table.from_pylist(self._held, self._schema))
            self._held = []


class ParquetSource:
    """Reads batches of rows."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._arrow, parquet = _arrow()
        self._name, self._kept = name, file
        try:
            self._file = parquet.ParquetFile(file)
        except (self._arrow.ArrowException, OSError) as error:
            raise self._broken(error) from None
        said = (self._file.schema_arrow.metadata or {}).get(KEY, b"")
        self._header = head_of(said.decode("utf-8", "replace"), name)

    @property
    def header(self) -> Header:
        return self._header

    def batches(self) -> Iterator[list[Record]]:
        row = 0
        try:
            for batch in self._file.iter_batches(BATCH):
                records: list[Record] = []
                for fields in batch.to_pylist():
                    row += 1
                    records.append(self._record(fields, f"{self._name}, row {row}"))
                yield records
        except (self._arrow.ArrowException, OSError) as error:
            raise self._broken(error) from None

    def close(self) -> None:
        self._kept.close()

    def _record(self, fields: dict[str, Any], where: str) -> Record:
        try:
            fields["metadata"] = json.loads(fields.get("metadata") or "{}")
        except (ValueError, TypeError):
            raise InvalidInput(f"{where}: metadata is no JSON.", "The file was damaged or changed.") from None
        # A null means that there is none, which is what a field that is left out means.
        return record_of({name: value for name, value in fields.items() if value is not None}, where, self._header)

    def _broken(self, error: Exception) -> InvalidInput:
        what = str(error).partition("\n")[0][:200]
        return InvalidInput(
            f"{self._name} is no whole Parquet file: {what}", "Copy or export it again; nothing of it was taken."
        )
