"""MLX as the whole house gets it: imported after the fast BLAS, and from nowhere else.

`from engine.backend import mx, nn`. Importing this module costs what importing MLX costs, so that only modules that run
on the compute thread do it at their top.
"""

from __future__ import annotations

from engine.blas import preload

BLAS = preload()

import mlx.core as mx  # noqa: E402  (the BLAS must be in the process first)
import mlx.nn as nn  # noqa: E402

__all__ = ["BLAS", "device", "mx", "nn", "on_cpu"]


def on_cpu() -> bool:
    """Whether products run on the CPU, where half precision is some 60 times slower than float32."""
    return mx.default_device() == mx.Device(mx.cpu)


def device() -> str:
    """`cpu` or the name of the accelerator, for status lines."""
    if on_cpu():
        return "cpu"
    return str(mx.device_info().get("device_name", "gpu"))
