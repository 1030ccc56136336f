"""A child process on a short leash: its own group, words on stdin, limits of time and output, and no one left behind.

Not even when the daemon itself is killed: a shell waits on a pipe that nobody else holds, and ends the group when the
pipe breaks.

Knows processes; does not know what runs in them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import psutil
import structlog

from agents.hands.outcome import HandsFailed, Started

log = structlog.get_logger()

MOST_OUTPUT = 4_000_000
"""Bytes of stdout; what Claude Code prints for one result is some kilobytes."""
KEPT_STDERR = 16_000
LEAVE_S = 3.0
"""Between the polite signal and the other one."""
SAME_START_S = 1.0
RUN_VARIABLE = "SOUL_RUN"
"""In the environment of a child and all its children: the id of the run, by which an orphan is known."""


WATCH = ("/bin/sh", "-c", 'read -r _ || kill -s KILL -- "-$0"')
"""Reads one line from the daemon when all is over; no line but an end means that the daemon is gone."""


@dataclass(frozen=True)
class Ended:
    """How a child ended. `status` is negative for a signal; `stdout` is cut at the limit."""

    status: int
    stdout: bytes
    stderr: str
    timed_out: bool
    overflowed: bool


@dataclass
class _Stream:
    """What came out of one pipe so far; only the last `most` bytes where it may overflow silently."""

    most: int
    data: bytearray = field(default_factory=bytearray)


async def run(
    command: Sequence[str],
    words: str,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    started: Started,
) -> Ended:
    """Runs `command` to its end or a limit; neither it nor its children outlive this call.

    Raises:
        HandsFailed: it could not be started.
    """
    try:
        process = await anyio.open_process(command, cwd=folder, env=dict(environment), start_new_session=True)
    except OSError as error:
        raise HandsFailed(
            "not started",
            f"{command[0]} could not be started: {error.strerror or error}.",
            "Install it, or name its path as `command` in agents.toml.",
        ) from error
    out, err = _Stream(MOST_OUTPUT), _Stream(KEPT_STDERR)
    overflowed = anyio.Event()
    watch: anyio.abc.Process | None = None
    try:
        watch = await _watch(process.pid)
        await started(process.pid, start_of(process.pid))
        with anyio.move_on_after(seconds) as limit:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_feed, process, words.encode())
                tasks.start_soon(_drain, process.stderr, err)
                tasks.start_soon(_collect, process.stdout, out, overflowed, tasks.cancel_scope)
                await process.wait()
                # Whoever it left behind holds the pipes open; its own words are in them already.
                _signal_group(process.pid, signal.SIGKILL)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
            if watch is not None:
                await _feed(watch, b"\n")
                await watch.wait()
                await watch.aclose()
    return Ended(
        process.returncode if process.returncode is not None else -signal.SIGKILL,
        bytes(out.data),
        err.data.decode("utf-8", "replace"),
        limit.cancelled_caught,
        overflowed.is_set(),
    )


def start_of(pid: int) -> float:
    """When the process began, Unix seconds; 0 when it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def end_orphans(run: str, pid: int | None, began: float | None) -> int:
    """Kills what is left of a run whose daemon is gone; returns how many processes.

    A pid alone proves nothing, since it may be somebody else's by now: its start time or the run's id must match.
    """
    if pid is not None and began and abs(start_of(pid) - began) < SAME_START_S:
        left = _group(pid)
    else:
        left = [one for one in psutil.process_iter() if _run_of(one) == run]
    for one in left:
        with contextlib.suppress(psutil.Error):
            one.kill()
    return len(left)


def _group(leader: int) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for one in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getpgid(one.pid) == leader:
                found.append(one)
    return found


def _run_of(process: psutil.Process) -> str:
    try:
        return process.environ().get(RUN_VARIABLE, "")
    except (psutil.Error, OSError):
        return ""


async def _watch(group: int) -> anyio.abc.Process | None:
    """Whoever ends the group with this process; None where there is no shell: then the next daemon does."""
    command = [*WATCH, str(group)]
    null = subprocess.DEVNULL
    try:
        return await anyio.open_process(command, env={}, start_new_session=True, stdout=null, stderr=null)
    except OSError as error:
        log.warning("a run is not watched", reason=str(error))
        return None


async def _feed(process: anyio.abc.Process, words: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(words)
        await process.stdin.aclose()


async def _drain(stream: anyio.abc.ByteReceiveStream | None, kept: _Stream) -> None:
    assert stream is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for chunk in stream:
            kept.data += chunk
            del kept.data[: -kept.most]


async def _collect(
    stream: anyio.abc.ByteReceiveStream | None, kept: _Stream, overflowed: anyio.Event, scope: anyio.CancelScope
) -> None:
    assert stream is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for chunk in stream:
            kept.data += chunk
            if len(kept.data) > kept.most:
                overflowed.set()
                scope.cancel()
                return


async def _end(process: anyio.abc.Process) -> None:
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with anyio.move_on_after(LEAVE_S):
            await process.wait()
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    await process.aclose()


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
