"""The form in which packets leave and enter: one record each, prose and vector side by side.

Knows the fields, their limits, and what makes a record unusable. Does not know files (`memory.jsonl`, `memory.parquet`)
nor the database (`memory.exchange`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from engine.errors import InvalidInput
from memory.packets import Kind, Packet, content_hash
from memory.text import cleaned

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = "soul packets"
VERSION = 1
LONGEST_PROSE = 16_000_000
"""Characters; more is not something that was said, and Postgres would take long over its words."""
UNIT = 0.02
"""How far the length of a vector may lie from 1."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself. Vectors are those of `embedder`, or there are none where it is ""."""

    embedder: str = ""
    dimension: int = 0
    version: int = VERSION


@dataclass(frozen=True)
class Record:
    """A packet with its vector, shape (dimension,), where it has one."""

    packet: Packet
    vector: NDArray[np.float32] | None = None


class Sink(Protocol):
    """A file that is being written. `close` completes it; without, it is no valid file."""

    def write(self, records: Sequence[Record]) -> None: ...
    def close(self) -> None: ...


class Source(Protocol):
    """A file that is being read. `batches` raises InvalidInput at the first thing that is wrong, the end included."""

    @property
    def header(self) -> Header: ...
    def batches(self) -> Iterator[list[Record]]: ...
    def close(self) -> None: ...


class _Fields(BaseModel):
    """One record. Names that are not known are passed over: a later version may have more."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    time: AwareDatetime
    agent: str
    session: str
    sequence: int = Field(ge=-(2**31), lt=2**31)
    kind: Kind
    prose: str = Field(max_length=LONGEST_PROSE)
    origin: str = ""
    resonance: float = Field(0.5, ge=0, le=1)
    generation: str = ""
    work_order: UUID | None = None
    content_hash: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    vector: list[FiniteFloat] | None = None


class _Head(BaseModel):
    format: str
    version: int
    embedder: str = ""
    dimension: int = Field(0, ge=0, le=65_536)


def head_of(said: str, name: str) -> Header:
    """The header that a file begins with, as JSON.

    Raises:
        InvalidInput: it is none, or of a version that is not known here.
    """
    try:
        head = _Head.model_validate_json(said)
    except ValidationError:
        head = None
    if head is None or head.format != MAGIC:
        raise InvalidInput(f"{name} is no export of a Soul's memory.", "`soul memory export FILE` makes one.")
    if head.version != VERSION:
        raise InvalidInput(
            f"{name} is of version {head.version}; this Soul reads version {VERSION}.",
            "Update the older of the two and export again.",
        )
    return Header(head.embedder, head.dimension, head.version)


def head_json(header: Header) -> str:
    """What `head_of` reads; the time is for a person."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        _Head(
            format=MAGIC, version=header.version, embedder=header.embedder, dimension=header.dimension
        ).model_dump_json()[:-1]
        + f',"made":"{made}"}}'
    )


def fields_of(record: Record) -> dict[str, Any]:
    """A record as plain values, in the order of the file; `vector` stays an array."""
    packet = record.packet
    return {
        "id": str(packet.id),
        "time": packet.time,
        "agent": packet.agent,
        "session": packet.session,
        "sequence": packet.sequence,
        "kind": packet.kind,
        "prose": packet.prose,
        "origin": packet.origin,
        "resonance": packet.resonance,
        "generation": packet.generation,
        "work_order": str(packet.work_order) if packet.work_order else None,
        "content_hash": content_hash(packet.prose),
        "metadata": dict(packet.metadata),
        "vector": record.vector,
    }


def record_of(said: str | bytes | dict[str, Any], where: str, header: Header) -> Record:
    """A record out of JSON or plain values; `where` names it in the error.

    Raises:
        InvalidInput: a field is missing or out of range, the hash is not that of the prose, or the vector cannot be.
    """
    try:
        fields = _Fields.model_validate(said) if isinstance(said, dict) else _Fields.model_validate_json(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the record"
        raise _bad(where, f"{place}: {first['msg'][:200]}") from None
    if fields.kind == "chunk":
        raise _bad(where, "a passage of a corpus is no memory", "Index its file: soul corpus add.")
    if fields.content_hash is not None and fields.content_hash != content_hash(fields.prose):
        raise _bad(where, "the content hash is not that of the prose")
    try:
        json.dumps(fields.metadata, allow_nan=False)
        time = fields.time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _bad(where, f"a value that cannot be kept: {error}") from None
    packet = Packet(
        id=fields.id,
        time=time,
        agent=fields.agent,
        session=fields.session,
        sequence=fields.sequence,
        kind=fields.kind,
        prose=cleaned(fields.prose),
        origin=fields.origin,
        resonance=fields.resonance,
        generation=fields.generation,
        work_order=fields.work_order,
        metadata=fields.metadata,
    )
    return Record(packet, None if fields.vector is None else _vector(fields.vector, where, header))


def _vector(values: list[float], where: str, header: Header) -> NDArray[np.float32]:
    if not header.embedder:
        raise _bad(where, "there is a vector, and the file names no embedder")
    if len(values) != header.dimension:
        raise _bad(where, f"the vector has {len(values)} numbers, not {header.dimension}")
    with np.errstate(over="ignore"):
        vector = np.array(values, np.float32)
        length = float(np.linalg.norm(vector))
    if not abs(length - 1) <= UNIT:
        raise _bad(where, f"the vector has length {length:.3g}, not 1")
    return vector


def _bad(where: str, what: str, remedy: str = "The file was damaged or changed; export it again.") -> InvalidInput:
    return InvalidInput(f"{where}: {what}.", remedy)
