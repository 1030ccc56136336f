"""The settings of one daemon: one frozen object, and where each value came from.

Built-in default, then `config.toml` in the home, then SOUL_* variables, then flags. Knows types, limits and names;
does not know what the values are for.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import InvalidInput
from server import paths

LogLevel = Literal["debug", "info", "warning", "error"]
KvFormat = Literal["k8v4", "q8", "exact"]
KV_FORMATS: tuple[KvFormat, ...] = ("k8v4", "q8", "exact")
LOG_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")
TOOLSETS = ("memory", "agents", "self", "status")
"""The names in `tools.registry`, whose import would cost a second (a test compares them)."""


_PART = {"least": 0.0, "most": 1.0}


@dataclass(frozen=True)
class Settings:
    """Every setting of the daemon. Folders are absolute."""

    home: Path
    model: str | None = field(default=None, metadata={"says": "folder or hub name of the Director's model"})
    adapter: Path | None = field(default=None, metadata={"says": "folder of a LoRA adapter on that model"})
    download: bool = field(default=True, metadata={"says": "whether a model may be fetched from the network"})
    database_url: str | None = field(default=None, metadata={"says": "a Postgres of your own, with pgvector"})
    context_tokens: int | None = field(default=None, metadata={"says": "cap of an agent's context", "least": 512})
    pressure: float = field(
        default=0.95,
        metadata={"says": "share of the context at which a window is let go", "least": 0.5, "most": 0.99},
    )
    self_tokens: int = field(default=1024, metadata={"says": "budget of the self", "least": 128, "most": 16384})
    notebook_tokens: int = field(default=2048, metadata={"says": "budget of the notebook", "least": 128, "most": 32768})
    prefill_chunk: int = field(default=512, metadata={"says": "tokens read between two looks at others", "least": 1})
    kv_format: KvFormat | None = field(default=None, metadata={"says": "k8v4, q8 or exact; default: k8v4 if it fits"})
    hot_contexts: int = field(default=3, metadata={"says": "idle agents whose cache stays in memory", "least": 1})
    kv_disk_gb: float = field(default=20.0, metadata={"says": "GB of disk for the caches of all agents"})
    recall_semantic: float = field(
        default=0.35, metadata={"says": "share of meaning against keywords in recall", **_PART}
    )
    recall_neighbours: float = field(default=0.1, metadata={"says": "what a neighbour's score adds; 0 = off", **_PART})
    recall_borrowed: float = field(
        default=0.5, metadata={"says": "what words add that only a neighbour has; 0 = off", **_PART}
    )
    recall_session: float = field(default=0.35, metadata={"says": "what the session's best adds; 0 = off", **_PART})
    recall_resonance: float = field(default=0.2, metadata={"says": "how far resonance moves a score; 0 = off", **_PART})
    recall_recency: float = field(default=0.1, metadata={"says": "how far age moves a score; 0 = off", **_PART})
    recall_speaker: float = field(default=0.4, metadata={"says": "gain of whom the question names; 0 = off", **_PART})
    recall_date: float = field(default=0.5, metadata={"says": "gain of the day it names; 0 = off", **_PART})
    recall_distinct: bool = field(default=True, metadata={"says": "leave out hits that repeat a better one"})
    gate_perplexity: float = field(
        default=1.05,
        metadata={"says": "times the anchor's perplexity that a generation may have", "least": 1.0, "most": 10.0},
    )
    gate_kl: float = field(
        default=0.1,
        metadata={"says": "nats that its predictions may lie from the anchor's", "least": 0.0, "most": 100.0},
    )
    gate_canaries: float = field(
        default=0.2, metadata={"says": "nats by which the loss on plain facts may rise", "least": 0.0, "most": 100.0}
    )
    gate_tools: float = field(default=0.0, metadata={"says": "share of the tool calls that may get lost", **_PART})
    gate_refusals: float = field(default=0.0, metadata={"says": "share of the refusals that may get lost", **_PART})
    gate_gain: float = field(
        default=0.0, metadata={"says": "nats by which the held-out loss must fall", "least": 0.0, "most": 100.0}
    )
    gate_rounds: int = field(default=3, metadata={"says": "smaller lambdas tried after a breach", "most": 10})
    evolve_minutes: float = field(default=240.0, metadata={"says": "how long `soul evolve` may take"})
    evolve_disk_gb: float = field(default=20.0, metadata={"says": "GB that must be free for `soul evolve`"})
    evolve_power_unknown: bool = field(
        default=False, metadata={"says": "whether `soul evolve` may run where no battery tells of mains power"}
    )
    ssh: str = field(default="ssh", metadata={"says": "the command that `soul dream --remote` connects with"})
    idle_minutes: float = field(default=30.0, metadata={"says": "without clients, then the daemon leaves; 0 = never"})
    http_host: str = field(default="127.0.0.1", metadata={"says": "address of `soul serve --http`"})
    http_port: int = field(default=8420, metadata={"says": "port of `soul serve --http`", "most": 65535})
    http_token: str | None = field(default=None, metadata={"says": "bearer token; required beyond loopback"})
    allowed_roots: tuple[Path, ...] = field(
        default=(), metadata={"says": "folders under which clients may index; default: your home folder"}
    )
    watch_corpora: bool = field(default=True, metadata={"says": "whether mounted corpora follow their files"})
    corpus_file_mb: int = field(
        default=8,
        metadata={"says": "MB of the largest text file of a corpus; PDF and Word 8 times", "least": 1, "most": 1000},
    )
    log_level: LogLevel = field(default="info", metadata={"says": "debug, info, warning or error"})
    read_only: bool = field(default=False, metadata={"says": "offer only what changes nothing"})
    toolsets: tuple[str, ...] = field(default=(), metadata={"says": "offer only these: " + ", ".join(TOOLSETS)})


SECRET = frozenset({"http_token", "database_url"})
"""Shown as set or unset, never as they are."""


@dataclass(frozen=True)
class Loaded:
    """The settings, and for each name where its value came from: `default`, a file, a variable or a flag."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    home: str,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Loaded:
    """Reads the settings of a home.

    Args:
        home: Absolute path of the home.
        flags: Values from the command line; None means that the flag was not given.
        environment: Where SOUL_* variables are looked up.

    Raises:
        InvalidInput: an unknown key, a wrong type or a value out of bounds; names the file or variable and the key.
    """
    folder = Path(home)
    values: dict[str, Any] = {}
    origins = {one.name: "default" for one in fields(Settings)}
    origins["home"] = "SOUL_HOME" if "SOUL_HOME" in environment else "default"
    for origin, base, found in _sources(folder, flags or {}, environment):
        for name, raw in found.items():
            values[name] = _READERS[name](raw, f"{origin}", name, base)
            origins[name] = origin if origin.endswith(".toml") else f"{origin}{_suffix(origin, name)}"
    settings = replace(Settings(folder), **values)
    if not settings.allowed_roots:
        settings = replace(settings, allowed_roots=(Path.home().resolve(),))
    return Loaded(settings, origins)


def _sources(
    folder: Path, flags: Mapping[str, Any], environment: Mapping[str, str]
) -> list[tuple[str, Path, dict[str, Any]]]:
    """(origin, folder that relative paths stand on, values), weakest first."""
    names = [one.name for one in fields(Settings) if one.name != "home"]
    variables = {name: environment[f"SOUL_{name.upper()}"] for name in names if f"SOUL_{name.upper()}" in environment}
    given = {name: value for name, value in flags.items() if value is not None}
    return [
        (str(folder / "config.toml"), folder, _from_file(folder / "config.toml", names)),
        ("variable", folder, {name: value for name, value in variables.items() if value != ""}),
        ("flag", Path.cwd(), given),
    ]


def _suffix(origin: str, name: str) -> str:
    return f" SOUL_{name.upper()}" if origin == "variable" else f" --{name.replace('_', '-')}"


def _from_file(path: Path, names: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}.", "Correct that line, or remove the file.") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", "Make it readable for you.") from error
    for name in found:
        if name not in names:
            near = _nearest(name, names)
            raise InvalidInput(
                f"{path} has an unknown key `{name}`.",
                f"Did you mean `{near}`?" if near else "`soul config` lists all keys.",
            )
    return found


def _nearest(name: str, names: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, n=1)), None)


# Readers: raw value (typed from TOML and flags, text from variables) to the field's type.


def _text(raw: Any, origin: str, name: str, base: Path) -> str:
    if not isinstance(raw, str) or not raw:
        raise _wrong(origin, name, "a text that is not empty", raw)
    return raw


def _path(raw: Any, origin: str, name: str, base: Path) -> Path:
    return Path(os.path.realpath(base / Path(_text(raw, origin, name, base)).expanduser()))


def _flag(raw: Any, origin: str, name: str, base: Path) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise _wrong(origin, name, "true or false", raw)


def _whole(raw: Any, origin: str, name: str, base: Path) -> int:
    limits = next(one for one in fields(Settings) if one.name == name).metadata
    least, most = limits.get("least", 0), limits.get("most")
    try:
        if isinstance(raw, bool | float):
            raise ValueError
        value = int(raw)
    except (TypeError, ValueError):
        raise _wrong(origin, name, "a whole number", raw) from None
    if value < least or (most is not None and value > most):
        raise _wrong(origin, name, f"at least {least}" if most is None else f"from {least} to {most}", raw)
    return value


def _minutes(raw: Any, origin: str, name: str, base: Path) -> float:
    try:
        if isinstance(raw, bool):
            raise ValueError
        value = float(raw)
    except (TypeError, ValueError):
        raise _wrong(origin, name, "a number of minutes", raw) from None
    if not 0 <= value <= 525_600:
        raise _wrong(origin, name, "from 0 to 525600", raw)
    return value


def _share(raw: Any, origin: str, name: str, base: Path) -> float:
    limits = next(one for one in fields(Settings) if one.name == name).metadata
    wanted = f"from {limits['least']} to {limits['most']}"
    try:
        if isinstance(raw, bool):
            raise ValueError
        value = float(raw)
    except (TypeError, ValueError):
        raise _wrong(origin, name, f"a number {wanted}", raw) from None
    if not limits["least"] <= value <= limits["most"]:
        raise _wrong(origin, name, wanted, raw)
    return value


def _list(raw: Any, origin: str, name: str, separator: str) -> list[str]:
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.split(separator) if part.strip()]
    if not isinstance(raw, list | tuple) or not all(isinstance(part, str) and part for part in raw):
        raise _wrong(origin, name, "a list of texts", raw)
    return list(raw)


def _roots(raw: Any, origin: str, name: str, base: Path) -> tuple[Path, ...]:
    return tuple(_path(part, origin, name, base) for part in _list(raw, origin, name, os.pathsep))


def _toolsets(raw: Any, origin: str, name: str, base: Path) -> tuple[str, ...]:
    chosen = _list(raw, origin, name, ",")
    for one in chosen:
        if one not in TOOLSETS:
            raise _wrong(origin, name, "one or more of " + ", ".join(TOOLSETS), one)
    return tuple(sorted(set(chosen)))


def read_toolsets(text: str) -> tuple[str, ...]:
    """The toolsets that a client's `--toolsets` names; InvalidInput for one that does not exist."""
    return _toolsets(text, "flag", "toolsets", Path())


def _level(raw: Any, origin: str, name: str, base: Path) -> LogLevel:
    for level in LOG_LEVELS:
        if raw == level:
            return level
    raise _wrong(origin, name, "one of " + ", ".join(LOG_LEVELS), raw)


def _kv_format(raw: Any, origin: str, name: str, base: Path) -> KvFormat:
    for one in KV_FORMATS:
        if raw == one:
            return one
    raise _wrong(origin, name, "one of " + ", ".join(KV_FORMATS), raw)


def _gigabytes(raw: Any, origin: str, name: str, base: Path) -> float:
    try:
        if isinstance(raw, bool):
            raise ValueError
        value = float(raw)
    except (TypeError, ValueError):
        raise _wrong(origin, name, "a number of GB", raw) from None
    if not 0 <= value <= 1e6:
        raise _wrong(origin, name, "from 0 to 1000000", raw)
    return value


_READERS: dict[str, Callable[[Any, str, str, Path], Any]] = {
    "model": _text,
    "adapter": _path,
    "download": _flag,
    "database_url": _text,
    "context_tokens": _whole,
    "pressure": _share,
    "self_tokens": _whole,
    "notebook_tokens": _whole,
    "prefill_chunk": _whole,
    "kv_format": _kv_format,
    "hot_contexts": _whole,
    "kv_disk_gb": _gigabytes,
    "recall_semantic": _share,
    "recall_neighbours": _share,
    "recall_borrowed": _share,
    "recall_session": _share,
    "recall_resonance": _share,
    "recall_recency": _share,
    "recall_speaker": _share,
    "recall_date": _share,
    "recall_distinct": _flag,
    "gate_perplexity": _share,
    "gate_kl": _share,
    "gate_canaries": _share,
    "gate_tools": _share,
    "gate_refusals": _share,
    "gate_gain": _share,
    "gate_rounds": _whole,
    "evolve_minutes": _minutes,
    "evolve_disk_gb": _gigabytes,
    "evolve_power_unknown": _flag,
    "ssh": _text,
    "idle_minutes": _minutes,
    "http_host": _text,
    "http_port": _whole,
    "http_token": _text,
    "allowed_roots": _roots,
    "watch_corpora": _flag,
    "corpus_file_mb": _whole,
    "log_level": _level,
    "read_only": _flag,
    "toolsets": _toolsets,
}


def _wrong(origin: str, name: str, wanted: str, raw: Any) -> InvalidInput:
    where = f"{origin}: `{name}`" if origin.endswith(".toml") else f"The {origin}{_suffix(origin, name)}"
    shown = "(a secret)" if name in SECRET else repr(raw)
    return InvalidInput(f"{where} must be {wanted}, not {shown}.", "`soul config` shows what is set where.")


def shown(loaded: Loaded) -> list[tuple[str, str, str, str]]:
    """Rows for a person: name, value, origin, meaning. Secrets are shown as set or unset."""
    rows = [("home", paths.display(str(loaded.settings.home)), loaded.origins["home"], "where everything is kept")]
    for one in fields(Settings):
        if one.name == "home":
            continue
        value = getattr(loaded.settings, one.name)
        if one.name in SECRET and value is not None:
            text = "(set)"
        elif isinstance(value, tuple):
            text = ", ".join(str(part) for part in value) or "(all)"
        else:
            text = "(none)" if value is None else str(value)
        rows.append((one.name, text, loaded.origins[one.name], one.metadata["says"]))
    return rows
