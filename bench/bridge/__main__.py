"""From spawning the process to the answered `initialize`: `soul serve` with a warm and a cold daemon, and its peer.

    python -m bench.bridge [--repeats 25] [--calls 1000] [--clients 8]

The three are interleaved in every round. Then eight clients at once make a thousand calls each on one home. Writes
bench/results/bridge.json and bridge.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
SOUL = Path(sys.executable).parent / "soul"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}


class Client:
    """One stdio server process, spoken to line by line."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )

    def say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def handshake(command: list[str], environment: dict[str, str]) -> float:
    """Seconds from spawn to the answered initialize."""
    began = time.perf_counter()
    client = Client(command, environment)
    client.say(INITIALIZE)
    answer = client.hear()
    took = time.perf_counter() - began
    assert "result" in answer, answer
    client.leave()
    return took


def stop(environment: dict[str, str]) -> None:
    subprocess.run([SOUL, "stop"], env=environment, capture_output=True, check=True)


def startup(repeats: int, folder: Path) -> dict[str, list[float]]:
    """Seconds per repeat of each way to start, interleaved."""
    warm = _environment(folder / "warm")
    cold = _environment(folder / "cold")
    ways: dict[str, list[float]] = {"warm": [], "cold": [], "minimal": []}
    serve = [str(SOUL), "serve"]
    minimal = [sys.executable, str(HERE / "minimal.py")]
    handshake(serve, warm)
    handshake(serve, cold)
    stop(cold)
    handshake(minimal, warm)
    for _ in range(repeats):
        _settle(warm)
        ways["minimal"].append(handshake(minimal, warm))
        ways["warm"].append(handshake(serve, warm))
        ways["cold"].append(handshake(serve, cold))
        stop(cold)  # and with it what it was loading, which would slow the next one down
    stop(warm)
    return ways


def _environment(home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUL_")}
    return {**clean, "SOUL_HOME": str(home), "SOUL_DOWNLOAD": "0"}


def _settle(environment: dict[str, str]) -> None:
    """Waits until the warm daemon has loaded everything, which would otherwise share the two cores."""
    while True:
        run = subprocess.run([SOUL, "status", "--json"], env=environment, capture_output=True, text=True, check=True)
        if all(part["state"] in ("ready", "failed") for part in json.loads(run.stdout)["parts"].values()):
            return
        time.sleep(0.1)


def crowd(clients: int, calls: int, folder: Path) -> dict[str, Any]:
    """So many clients on one home at once, each with its own calls; how long, and whether each got its own answers."""
    environment = _environment(folder / "crowd")
    wrong = [0]
    took: list[float] = []

    def work(number: int) -> None:
        client = Client([str(SOUL), "serve"], environment)
        client.say(INITIALIZE)
        assert "result" in client.hear()
        client.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        for call in range(calls):
            mine = f"{number}-{call}"
            began = time.perf_counter()
            client.say({"jsonrpc": "2.0", "id": mine, "method": "tools/call", "params": {"name": mine}})
            answer = client.hear()
            took.append(time.perf_counter() - began)
            # The answer names the tool that does not exist, so that each can be told from every other one.
            if answer.get("id") != mine or mine not in json.dumps(answer.get("error") or answer.get("result")):
                wrong[0] += 1
        client.leave()

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    log = (folder / "crowd" / "logs" / "daemon.log").read_text()
    stop(environment)
    return {
        "clients": clients,
        "calls": clients * calls,
        "answered": len(took),
        "lost_or_crossed": wrong[0] + clients * calls - len(took),
        "daemons": log.count('"daemon starts"'),
        "seconds": seconds,
        "call_ms": _spread([1000 * one for one in took]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    first, middle, third = quantiles(values, n=4)
    return {"median": round(middle, 3), "q1": round(first, 3), "q3": round(third, 3), "max": round(max(values), 3)}


def draw(ways: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {
        "warm": "soul serve,\nwarm daemon",
        "minimal": "minimal server\nof the same SDK",
        "cold": "soul serve,\ncold daemon",
    }
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.boxplot([[1000 * one for one in ways[name]] for name in labels], tick_labels=list(labels.values()))
    axes.set_ylabel("spawn to answered initialize, ms")
    axes.set_ylim(bottom=0)
    for place, name in enumerate(labels, 1):
        value = 1000 * median(ways[name])
        axes.annotate(f"{value:.0f} ms", (place, value), xytext=(28, 0), textcoords="offset points", va="center")
    axes.set_title(f"{len(ways['warm'])} interleaved repeats")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--repeats", type=int, default=25)
    given.add_argument("--clients", type=int, default=8)
    given.add_argument("--calls", type=int, default=1000)
    given.add_argument("--results", type=Path, default=RESULTS)
    options = given.parse_args()
    with tempfile.TemporaryDirectory(prefix="soul-bench-") as folder:
        ways = startup(options.repeats, Path(folder))
        together = crowd(options.clients, options.calls, Path(folder))
    milliseconds = {name: _spread([1000 * one for one in values]) for name, values in ways.items()}
    minimal = milliseconds["minimal"]["median"]
    found = {
        "command": " ".join(["python -m bench.bridge", *sys.argv[1:]]),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "spawn_to_initialize_ms": milliseconds,
        "of_minimal": {name: round(milliseconds[name]["median"] / minimal, 3) for name in ("warm", "cold")},
        "targets_of_minimal": {"warm": 0.1, "cold": 1.5},
        "crowd": together,
        "samples_ms": {name: [round(1000 * one, 2) for one in values] for name, values in ways.items()},
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "bridge.json").write_text(json.dumps(found, indent=2) + "\n")
    draw(ways, options.results / "bridge.png")
    print(json.dumps({name: value for name, value in found.items() if name != "samples_ms"}, indent=2))


if __name__ == "__main__":
    main()
