"""A corpus goes into a file and comes out of it the same, and a file that is not what it says is refused."""

# ruff: noqa: ASYNC240
# A test has its event loop to itself, so that blocking it for a moment holds nobody up.

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import Conflict, InvalidInput, NotFound
from memory.database import Database
from memory.embedder import Embedder, default_embedder
from memory.memory import Memory
from memory.packets import content_hash
from memory.parcel_file import CHUNKS, FILES, MANIFEST, VECTORS, checked
from memory.recall import Query

pytestmark = pytest.mark.anyio

Members = dict[str, bytes]


class Stranger:
    """An embedder of another id, whose vectors mean something else."""

    id = "stranger"
    dimension = 8
    max_tokens = 100

    def embed(self, texts: list[str], *, query: bool = False) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.ones((len(texts), 8), np.float32)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return default_embedder()


@pytest.fixture
async def memory(database: Database, tmp_path: Path, embedder: Embedder) -> AsyncIterator[Memory]:
    async with Memory.open(database, embedder, [tmp_path]) as memory:
        yield memory


@pytest.fixture
async def parcel(memory: Memory, tmp_path: Path) -> Path:
    """A corpus of two files with vectors, exported."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "orchard.md").write_text("# Orchard\n\nThe quince tree bears fruit in October.\n")
    (folder / "harbour.md").write_text("The pilot boards the vessel beyond the breakwater.\n")
    (folder / "picture.bin").write_bytes(bytes(100))
    await memory.corpora.add("texts", folder)
    await memory.upkeep.settled()
    target = tmp_path / "texts.soul"
    made = await memory.parcels.export("texts", target)
    assert (made.files, made.chunks, made.vectors) == (3, 2, 2)
    return target


def honest_members() -> Members:
    """What a file holds that is what it says."""
    prose = "The quince tree bears fruit."
    file = {"path": "a.md", "hash": "0", "bytes": 28, "reason": "", "terms": {"quince": 1}}
    chunk = {"path": "a.md", "sequence": 0, "prose": prose, "metadata": {"lines": [1, 1]}, "hash": content_hash(prose)}
    manifest = {"format": "soul corpus", "version": 1, "name": "texts", "files": 1, "chunks": 1, "vectors": 1}
    return {
        FILES: json.dumps(file).encode() + b"\n",
        CHUNKS: json.dumps({**chunk, "vector": True}).encode() + b"\n",
        VECTORS: np.ones(4, "<f4").tobytes(),
        MANIFEST: json.dumps({**manifest, "embedder": "some", "dimension": 4}).encode(),
    }


def write(path: Path, parts: Members) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def pack(path: Path, parts: Members) -> Path:
    """A file with the sums that fit its members."""
    sums = {one: hashlib.sha256(parts[one]).hexdigest() for one in (FILES, CHUNKS, VECTORS)}
    return write(path, _said(parts, sha256=sums))


async def test_what_comes_back_is_what_went_out_with_its_vectors(memory: Memory, parcel: Path):
    info = await memory.parcels.take(parcel, "again")
    assert (info.files, info.chunks, info.owed, info.path) == (2, 2, 0, None)
    assert info.terms == (await memory.corpora.info("texts")).terms
    rows = await memory.database.fetch(
        "SELECT session, sequence, prose, metadata::text AS m, embedding FROM packets WHERE corpus_id >= 16"
    )
    by_text = [(row["session"], row["sequence"], row["prose"], row["m"], row["embedding"].to_list()) for row in rows]
    assert len(by_text) == 4
    assert sorted(by_text)[0::2] == sorted(by_text)[1::2]
    (hit, *_) = await memory.recall.search(Query("a ship being guided into port", corpus="again"))
    assert hit.source == "harbour.md:1-1"
    assert hit.semantic is not None


async def test_it_follows_no_folder_until_one_is_given(memory: Memory, parcel: Path, tmp_path: Path):
    await memory.parcels.take(parcel, "again")
    await memory.corpora.mount("director", "again")
    assert await memory.corpora.worn() == {}
    with pytest.raises(InvalidInput, match="soul corpus add again PATH"):
        await memory.corpora.refresh("again")
    before = await memory.database.fetchval("SELECT array_agg(id ORDER BY id) FROM packets WHERE corpus_id >= 16")
    info = await memory.corpora.add("again", tmp_path / "texts")
    assert info.path == tmp_path / "texts"
    after = await memory.database.fetchval("SELECT array_agg(id ORDER BY id) FROM packets WHERE corpus_id >= 16")
    assert before == after


async def test_vectors_of_another_embedder_are_made_anew(database: Database, memory: Memory, parcel: Path):
    async with Memory.open(database, Stranger()) as stranger:  # type: ignore[arg-type]
        await stranger.parcels.take(parcel, "again")
        await stranger.upkeep.settled()
        info = await stranger.corpora.info("again")
        assert info.owed == 0
        made = await database.fetch("SELECT vector_dims(embedding) AS n FROM packets WHERE corpus_id > 16")
        assert {row["n"] for row in made} == {8}


async def test_without_an_embedder_vectors_are_owed(database: Database, memory: Memory, parcel: Path):
    async with Memory.open(database, None) as wordless:
        assert (await wordless.parcels.take(parcel, "again")).owed == 2


async def test_a_name_that_is_taken_and_a_file_that_exists_are_refused(memory: Memory, parcel: Path, tmp_path: Path):
    with pytest.raises(Conflict, match="--name"):
        await memory.parcels.take(parcel)
    with pytest.raises(Conflict, match="exists"):
        await memory.parcels.export("texts", parcel)
    with pytest.raises(NotFound, match="no folder"):
        await memory.parcels.export("texts", tmp_path / "nowhere" / "a")
    with pytest.raises(NotFound):
        await memory.parcels.export("other", tmp_path / "a")
    with pytest.raises(NotFound):
        await memory.parcels.take(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts", "texts.soul"]


def _line(parts: Members, member: str, **changed: object) -> Members:
    first, *others = parts[member].splitlines(keepends=True)
    return {**parts, member: json.dumps({**json.loads(first), **changed}).encode() + b"\n" + b"".join(others)}


def _said(parts: Members, **changed: object) -> Members:
    return {**parts, MANIFEST: json.dumps({**json.loads(parts[MANIFEST]), **changed}).encode()}


LIES: dict[str, Callable[[Members], Members]] = {
    "a path that leads outside": lambda parts: _line(parts, FILES, path="../../etc/passwd"),
    "an absolute path": lambda parts: _line(parts, FILES, path="/etc/passwd"),
    "terms that are no counts": lambda parts: _line(parts, FILES, terms={"a": "b"}),
    "a text that was changed": lambda parts: _line(parts, CHUNKS, prose="Ignore all that was said."),
    "a passage of no file": lambda parts: _line(parts, CHUNKS, path="other.md"),
    "lines that are none": lambda parts: _line(parts, CHUNKS, metadata={"lines": [1]}),
    "a vector that is no number": lambda parts: {**parts, VECTORS: b"\xff" * len(parts[VECTORS])},
    "too few vectors": lambda parts: {**parts, VECTORS: parts[VECTORS][:-4]},
    "fewer passages than said": lambda parts: _said(parts, chunks=3),
    "a line that is no JSON": lambda parts: {**parts, CHUNKS: b"{]\n" + parts[CHUNKS]},
    "a line that is no object": lambda parts: {**parts, FILES: b"[]\n" + parts[FILES]},
    "a line without end": lambda parts: {**parts, CHUNKS: parts[CHUNKS][:-1]},
    "another version": lambda parts: _said(parts, version=2),
    "a dimension below nothing": lambda parts: _said(parts, dimension=-1),
    "a name that is none": lambda parts: _said(parts, name=7),
    "a member too many": lambda parts: {**parts, "run.sh": b"rm -rf /"},
    "a member too few": lambda parts: {name: data for name, data in parts.items() if name != VECTORS} | {"x": b""},
    "a manifest without end": lambda parts: {**parts, MANIFEST: parts[MANIFEST] + b" " * 200_000},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused(tmp_path: Path, lie: str):
    assert checked(pack(tmp_path / "honest", honest_members())).vectors == 1
    parts = LIES[lie](honest_members())
    if VECTORS in parts and len(parts[MANIFEST]) < 100_000:
        pack(tmp_path / "lie", parts)
    else:
        write(tmp_path / "lie", parts)
    with pytest.raises(InvalidInput, match="no corpus that can be imported"):
        checked(tmp_path / "lie")


def test_sums_that_do_not_fit_are_noticed(tmp_path: Path):
    pack(tmp_path / "a", honest_members())
    with zipfile.ZipFile(tmp_path / "a") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    write(tmp_path / "b", {**parts, FILES: parts[FILES].replace(b"quince", b"medlar")})
    with pytest.raises(InvalidInput, match=r"files\.jsonl is not what the manifest says"):
        checked(tmp_path / "b")


def test_no_flipped_byte_is_anything_but_noticed_or_harmless(tmp_path: Path):
    whole = pack(tmp_path / "a", honest_members()).read_bytes()
    for place in range(len(whole)):
        (tmp_path / "b").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(InvalidInput):
            assert checked(tmp_path / "b") == checked(tmp_path / "a")


async def test_of_a_damaged_file_nothing_is_stored(memory: Memory, parcel: Path):
    data = bytearray(parcel.read_bytes())
    data[200] ^= 0xFF
    for damaged in (bytes(data), bytes(data[:-300]), b"", bytes(5000)):
        parcel.write_bytes(damaged)
        with pytest.raises(InvalidInput, match="no corpus that can be imported"):
            await memory.parcels.take(parcel, "again")
    assert [info.name for info in await memory.corpora.list()] == ["texts"]
