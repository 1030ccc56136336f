"""What is wrong with a file is noticed and computed again; no answer ever comes from it."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.kv.journal import HEAD, replay
from engine.kv.manifest import Manifest
from engine.kv.shelf import Shelf
from engine.kv.tensors import Damaged, read, read_header
from engine.kv.verifying import verify
from tests.kv.turns import files_below, opened, prompt, say

pytestmark = pytest.mark.anyio
TURNS = [prompt(1, 600), prompt(2, 300), prompt(3, 100)]


@pytest.fixture
async def lived(tmp_path: Path, drawn_folder: Path) -> Path:
    """A home with one context of three turns, saved."""
    home = tmp_path / "home"
    async with opened(home, drawn_folder) as engine:
        for turn in TURNS:
            await say(engine, "a", turn)
            assert await engine.saved("a")
    return home


async def wanted(folder: Path, model: Path) -> tuple[int, ...]:
    """The fourth reply of an uninterrupted run."""
    async with opened(folder, model, persist=False) as engine:
        for turn in TURNS:
            await say(engine, "a", turn)
        return (await say(engine, "a", prompt(4, 20))).ids


def notices(path: Path, log_bytes: int) -> bool:
    """Whether reading a file finds out that something is wrong with it. `log_bytes`: what the manifest says."""
    try:
        if path.name == "ids.log":
            found = replay(path)
            return found.damage != "" or found.good < log_bytes
        if path.name == "manifest":
            Manifest.decode(path.read_bytes())
        else:
            header = read_header(path)
            read(path, header)
        return False
    except (Damaged, ValueError, KeyError):
        return True


async def test_every_flipped_byte_and_every_truncation_is_noticed(lived: Path, tmp_path: Path) -> None:
    draw = random.Random(5)
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    files = files_below(lived / "kv")
    assert len(files) >= 4
    (manifest,) = [Manifest.decode(path.read_bytes()) for path in files if path.name == "manifest"]
    size = manifest.tails[-1].log_bytes
    for path in files:
        content = path.read_bytes()
        target = spoilt / path.name
        heads = range(min(len(content), 1500))
        places = sorted(
            {*draw.sample(heads, min(len(heads), 150)), *(draw.randrange(len(content)) for _ in range(100))}
        )
        for place in places:
            flipped = bytearray(content)
            flipped[place] ^= 1 << draw.randrange(8)
            target.write_bytes(flipped)
            assert notices(target, size), f"{path.name}: byte {place} of {len(content)}"
        for length in {0, 1, 7, 8, 100, len(content) // 2, len(content) - 1}:
            target.write_bytes(content[:length])
            assert notices(target, size), f"{path.name}: {length} of {len(content)} bytes"
    assert not any(notices(path, size) for path in files)


@pytest.mark.parametrize("which", ["pool", "tail", "manifest", "ids.log"])
async def test_a_damaged_file_costs_computing_and_no_token(
    which: str, lived: Path, tmp_path: Path, drawn_folder: Path
) -> None:
    path = next(path for path in files_below(lived / "kv") if which in str(path.relative_to(lived)))
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)
    async with opened(lived, drawn_folder) as engine:
        assert list(engine.ids("a"))[:600] == TURNS[0]
        before = len(engine.ids("a"))
        reply = await say(engine, "a", prompt(4, 20))
        assert reply.ids == await wanted(tmp_path / "other", drawn_folder)
        assert before == sum(map(len, TURNS)) + 3 * 8
        assert list((lived / "kv" / "quarantine").iterdir())
        assert await engine.saved("a")
        assert engine.store.shelf is not None and not verify(engine.store.shelf)
        if which == "pool":
            # The first two blocks were lost and computed again; the rest came from disk.
            assert reply.cached_tokens == 0


async def test_a_log_that_lost_its_last_turns_gets_them_back(lived: Path, drawn_folder: Path) -> None:
    async with opened(lived, drawn_folder) as engine:
        ids = engine.ids("a")
    path = next(path for path in files_below(lived / "kv") if path.name == "ids.log")
    # A whole record remains: the first turn with its reply.
    path.write_bytes(path.read_bytes()[: HEAD.size + 4 * (600 + 8)])
    assert not replay(path).damage
    async with opened(lived, drawn_folder) as engine:
        assert engine.ids("a") == ids
        assert (await say(engine, "a", prompt(4, 20))).cached_tokens == len(ids) - 1
        assert await engine.saved("a")
        assert engine.store.shelf is not None and not verify(engine.store.shelf)


async def test_a_hole_is_computed_and_what_lies_behind_it_is_loaded(lived: Path, drawn_folder: Path) -> None:
    pool = [path for path in files_below(lived / "kv") if path.parent.name == "pool"]
    first = min(pool, key=lambda path: int(read_header(path).metadata["start"]))
    first.write_bytes(first.read_bytes()[:-1])
    computed: list[int] = []
    async with opened(lived, drawn_folder) as engine:
        inner = engine._model.network  # pyright: ignore[reportPrivateUsage]
        context = engine._of("a")  # pyright: ignore[reportPrivateUsage]
        advance = context.advance
        context.advance = lambda model, ids: (computed.append(len(ids)), advance(model, ids))[1]  # type: ignore[method-assign]
        await say(engine, "a", prompt(4, 20), 1)
        assert inner is not None
    assert sum(computed) == 512 + 20 + 1


async def test_a_file_of_other_weights_is_never_used(lived: Path, drawn_folder: Path) -> None:
    other = Shelf(lived / "kv", "f" * 64, "k8v4-g64")
    mine = next(folder for folder in (lived / "kv").iterdir() if folder.name != "quarantine")
    shutil.copytree(mine, other.folder)
    other.open()
    assert other.names() == ["a"]
    assert other.manifest("a") is None
    assert list((lived / "kv" / "quarantine").iterdir())


async def test_any_reader_of_safetensors_can_read_the_files(lived: Path) -> None:
    (path,) = [path for path in files_below(lived / "kv") if path.name.startswith("tail-")]
    tensors = load_file(path)
    assert tensors["ids"].dtype == np.int32
    assert tensors["0.k"].shape == (1, 2, (tensors["ids"].size - 1) % 256, 64)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_fails_no_turn_and_harms_nothing_old(small_disk: Path, drawn_folder: Path) -> None:
    async with opened(small_disk, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 300))
        assert await engine.saved("a")
        for n in range(4):
            assert len((await say(engine, "a", prompt(n, 600))).ids) == 8
            durable = await engine.saved("a")
        assert not durable
        (status,) = engine.status().contexts
        assert "No space left" in status.save_error
        ids = engine.ids("a")
    async with opened(small_disk, drawn_folder) as engine:
        found = engine.ids("a")
        assert found == ids[: len(found)] and len(found) >= 308
        assert engine.store.shelf is not None and not verify(engine.store.shelf)
        assert (await say(engine, "a", prompt(7, 5))).cached_tokens >= 256


async def test_a_disk_that_becomes_read_only_fails_no_turn_and_is_caught_up_with(
    small_disk: Path, drawn_folder: Path
) -> None:
    async with opened(small_disk, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 300))
        assert await engine.saved("a")
        before = {path: path.read_bytes() for path in files_below(small_disk)}
        await anyio.run_process(["mount", "-o", "remount,ro", small_disk])
        try:
            assert len((await say(engine, "a", prompt(2, 20))).ids) == 8
            assert not await engine.saved("a")
            (kept,) = engine.store.list()
            assert "Read-only" in kept.save_error and kept.saved_tokens < kept.tokens - 8
            assert {path: path.read_bytes() for path in files_below(small_disk)} == before
        finally:
            await anyio.run_process(["mount", "-o", "remount,rw", small_disk])
        await say(engine, "a", prompt(3, 20))
        assert await engine.saved("a")
        assert engine.store.shelf is not None and not verify(engine.store.shelf)
        ids = engine.ids("a")
    async with opened(small_disk, drawn_folder) as engine:
        assert engine.ids("a") == ids


async def test_a_write_that_breaks_off_in_the_middle_leaves_nothing_behind(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 300))
        assert await engine.saved("a")
        before = {path: path.read_bytes() for path in files_below(tmp_path / "kv") if path.name != "ids.log"}
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            assert len((await say(engine, "a", prompt(2, 400))).ids) == 8
            assert not await engine.saved("a")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "too large" in engine.status().contexts[0].save_error
        after = {path: path.read_bytes() for path in files_below(tmp_path / "kv") if path.name != "ids.log"}
        assert after == before
        ids = engine.ids("a")
    async with opened(tmp_path, drawn_folder) as engine:
        # The ids were short enough to be written; what was computed of them is computed again.
        assert engine.ids("a") == ids
        assert (await say(engine, "a", prompt(3, 5))).cached_tokens >= 300


async def test_a_home_that_cannot_be_written_is_worked_in_and_said(tmp_path: Path, drawn_folder: Path) -> None:
    (tmp_path / "kv").write_text("no folder")
    async with opened(tmp_path, drawn_folder) as engine:
        assert len((await say(engine, "a", prompt(1, 300))).ids) == 8
        assert str(tmp_path) in engine.status().kv_error


KILLED = """
import os, sys, anyio, random
from pathlib import Path
from tests.kv.turns import opened, prompt, say

async def main(home, model, seed):
    async with opened(Path(home), Path(model), hot_contexts=1) as engine:
        turn = len(engine.ids("a")) if engine.exists("a") else 0
        print("open", turn, flush=True)
        for n in range(50):
            for name in "ab":
                await say(engine, name, prompt(seed * 100 + n, 120), 3)
                print("answered", name, len(engine.ids(name)), *engine.ids(name)[-3:], flush=True)

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def killed_run(home: Path, model: Path, seed: int, delay: float) -> dict[str, tuple[int, list[int]]]:
    """Runs turns in a process of its own, kills it some time after it opened; what it had answered."""
    import threading

    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, home, model, str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    answered: dict[str, tuple[int, list[int]]] = {}
    timer: threading.Timer | None = None
    for line in process.stdout:
        words = line.split()
        if words[:1] == ["open"]:
            timer = threading.Timer(delay, process.kill)
            timer.start()
        elif words[:1] == ["answered"]:
            answered[words[1]] = (int(words[2]), [int(one) for one in words[3:]])
    process.wait()
    if timer is not None:
        timer.cancel()
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.returncode == -9, error
    return answered


async def test_a_killed_process_loses_no_answered_turn(tmp_path: Path, drawn_folder: Path) -> None:
    # Three kills; `python -m bench.kv.faults` does 300 and compares every id.
    draw = random.Random(11)
    home = tmp_path / "home"
    lengths: dict[str, int] = {}
    for seed in range(3):
        answered = killed_run(home, drawn_folder, seed, draw.uniform(0.0, 0.6))
        async with opened(home, drawn_folder) as engine:
            assert engine.store.shelf is not None and not verify(engine.store.shelf)
            for name, (length, last) in answered.items():
                ids = engine.ids(name)
                assert len(ids) >= length
                assert list(ids[length - 3 : length]) == last
            for name in lengths:
                assert len(engine.ids(name)) >= lengths[name]
            lengths = {one.name: one.tokens for one in engine.status().contexts}
