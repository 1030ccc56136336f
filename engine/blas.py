"""Puts a fast BLAS in front of MLX on Linux, before MLX is imported.

The Linux wheel of MLX carries the reference BLAS: about 4 GF/s on two cores, where MKL gives 290. The dynamic linker
takes a symbol from the first library of the global scope that has it, so that loading MKL (or OpenBLAS) with
`RTLD_GLOBAL` first is enough. Knows where such a library lies; does not know what MLX computes with it. On Apple
silicon none of this applies. Only `engine.backend` imports MLX, and it comes through here.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()

OPENBLAS = ("libopenblas.so.0", "libopenblas.so")
REMEDY = "Install one: `pip install mkl` on x86-64, or the system's package `libopenblas0`."


@dataclass(frozen=True)
class Blas:
    """The BLAS that MLX's CPU products use."""

    name: str
    """`Accelerate`, `MKL`, `OpenBLAS` or `reference`."""
    path: str
    fast: bool
    remedy: str = ""
    """What to do about a slow one; empty for a fast one."""


@functools.cache
def preload() -> Blas:
    """Loads the fastest BLAS at hand into the process, once, and says which one it is. Never raises."""
    if sys.platform == "darwin":
        return Blas("Accelerate", "", fast=True)
    if "mlx.core" in sys.modules:
        return Blas(
            "reference", "", fast=False, remedy="MLX was imported before engine.blas.preload(); import it later."
        )
    # MKL's threads spin for 200 ms after each product, waiting for the next one. On a machine that does anything else
    # at the same time that costs more than it saves (measured at a load of 8: decoding at 82 instead of 142 tokens/s).
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    for name, library in _candidates():
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            log.debug("blas_not_loadable", library=library, error=str(error))
            continue
        return Blas(name, library, fast=True)
    log.warning("slow_blas", remedy=REMEDY)
    return Blas("reference", "", fast=False, remedy=REMEDY)


def gigaflops(size: int = 768, seconds: float = 0.2) -> float:
    """Measures a float32 matrix product of `size` by `size`, in 10⁹ floating-point operations per second."""
    from engine.backend import mx

    left = mx.random.normal((size, size))
    right = mx.random.normal((size, size))
    mx.eval(left @ right)
    products = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        mx.eval(left @ right)
        products += 1
    return 2 * size**3 * products / elapsed / 1e9


def _candidates() -> Iterator[tuple[str, str]]:
    """Libraries to try, fastest first: the wheel `mkl`, then whatever OpenBLAS the linker finds."""
    if platform.machine() in ("x86_64", "AMD64"):
        for path in _mkl():
            yield "MKL", str(path)
    for library in OPENBLAS:
        yield "OpenBLAS", library


def _mkl() -> Iterator[Path]:
    """`libmkl_rt.so.N` as the wheel's own record names it, and as it lies in the environment's `lib`."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith("libmkl_rt.so"):
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                yield path
    yield from sorted((Path(sys.prefix) / "lib").glob("libmkl_rt.so.*"))
