"""agents.toml: who can be invoked beyond the Director, where each runs, and within which limits.

Knows the file, its fields and what a person did wrong in it, by line; starts nobody. A missing file means: nobody. The
file is read whenever somebody is called, so that a change needs no restart (but the Director's own table, which is read
when the daemon starts).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from agents.checks import Check
from agents.rules import Rules
from engine.errors import InvalidInput, NotFound
from engine.kv.form import KvChoice

FILE = "agents.toml"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
RULES = "rules"
RESERVED = ("hands", "person", "soul", RULES)
Role = Literal["director", "architect", "builder", "controller", "critic", "majordomo"]
Texts = Annotated[tuple[str, ...], Strict(False)]

OF_THE_HOUSE = {"model": "model", "context": "context_tokens", "kv_format": "kv_format"}
"""Keys of a local agent that the Director has elsewhere, and where."""
CLAUDE_TOOLS = ("Read", "Glob", "Grep", "Edit", "Write", "NotebookEdit", "WebFetch", "WebSearch")


class _Spec(BaseModel):
    """What all agents have. `name` is the table's own name in the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    role: Role
    instructions: str = ""


class LocalSpec(_Spec):
    """An agent at home: a context and a KV cache of its own, on the Director's model or another one."""

    runs_on: Literal["mlx"] = "mlx"
    model: str = ""
    """A folder, a hub name, or the name of one that is loaded; the Director's where it is left out."""
    context: Annotated[int, Field(ge=512, le=10_000_000)] | None = None
    """Most tokens of its window, where that is to be fewer than the model and the memory allow."""
    kv_format: KvChoice | None = None
    """How its cache is kept; as the Director's where it is left out."""
    tools: Texts = ("recall",)
    steps: Annotated[int, Field(ge=1, le=50)] = 6
    tokens: Annotated[int, Field(ge=16, le=32_768)] = 768
    seconds: Annotated[float, Field(gt=0, le=7_200)] = 300.0
    checks: Annotated[tuple[Check, ...], Strict(False)] = ()
    """What the controller looks at; of no use to anybody else."""


class _HandsSpec(_Spec):
    minutes: Annotated[float, Field(gt=0, le=1_440)]
    rounds: Annotated[int, Field(ge=1, le=10)] = 3
    safe_to_repeat: bool = False
    """Whether an order may be run again after the daemon was killed in the middle of it."""


class ClaudeSpec(_HandsSpec):
    """A headless Claude Code. It works in `folder` alone, and only with `tools`."""

    runs_on: Literal["claude"]
    folder: str
    tools: Texts = ("Read", "Glob", "Grep")
    turns: Annotated[int, Field(ge=1, le=1_000)]
    usd: Annotated[float, Field(gt=0, le=10_000)]
    model: str = ""
    command: str = "claude"
    environment: Texts = ()
    """Names of variables that it gets besides the usual ones."""


class ApiSpec(_HandsSpec):
    """A model behind an API. It gets words and gives words; it has no tools and no folder."""

    runs_on: Literal["api"]
    provider: Literal["openai", "anthropic"] = "openai"
    model: str
    base_url: str = ""
    key: str = ""
    """The NAME of the variable with the key; the key itself is never in a file of ours. Empty for a local server."""
    tokens: Annotated[int, Field(ge=16, le=200_000)]


Spec = LocalSpec | ClaudeSpec | ApiSpec
_KINDS: Mapping[str, type[_Spec]] = {"mlx": LocalSpec, "claude": ClaudeSpec, "api": ApiSpec}
_SPEC: TypeAdapter[Spec] = TypeAdapter(Annotated[Spec, Field(discriminator="runs_on")])


@dataclass(frozen=True)
class Roster:
    """All agents of one agents.toml, by name."""

    path: Path
    specs: Mapping[str, Spec] = field(default_factory=dict[str, Spec])
    rules: Rules = field(default_factory=Rules)

    def get(self, name: str) -> Spec:
        """The agent of that name; NotFound with who there is."""
        found = self.specs.get(name)
        if found is None:
            known = ", ".join(("director", "hands", *(one for one in self.specs if one != "director")))
            raise NotFound(f"There is no agent {name[:64]!r}.", f"Agents: {known}. `soul agents new` makes more.")
        return found

    def of_role(self, role: Role) -> Spec | None:
        """The first agent with that role."""
        return next((spec for spec in self.specs.values() if spec.role == role), None)

    def at_home(self, role: Role) -> LocalSpec:
        """The first local agent with that role; one with all defaults where the file has none."""
        found = (spec for spec in self.specs.values() if spec.role == role and isinstance(spec, LocalSpec))
        return next(found, LocalSpec(name=role, role=role))


def read(home: Path) -> Roster:
    """The roster of a home; empty without a file.

    Raises:
        InvalidInput: the file cannot be used; names the line and what to do.
    """
    path = home / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Roster(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", "Make it a UTF-8 text that you can read.") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Roster:
    """The roster that `text` describes; relative folders stand on the home. InvalidInput as `read`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        remedy = "Give each agent a name of its own." if "twice" in str(error) or "overwrite" in str(error) else ""
        raise InvalidInput(f"{path}: {error}.", remedy or "Correct that line; `soul agents edit` checks it.") from error
    given = tables.pop(RULES, {})
    specs = {name: _spec(name, table, text, path) for name, table in tables.items()}
    return Roster(path, specs, _rules(given, specs, text, path))


def _rules(given: Any, specs: Mapping[str, Spec], text: str, path: Path) -> Rules:
    try:
        rules = Rules.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0]) if problem["loc"] else ""
        raise InvalidInput(
            f"{path}, line {_line(text, RULES, key)}: `{key or RULES}` of [{RULES}]: {problem['msg']}.",
            f"Its keys are: {', '.join(Rules.model_fields)}.",
        ) from error
    if rules.hands != "hands" and isinstance(specs.get(rules.hands), LocalSpec | None):
        raise InvalidInput(
            f"{path}, line {_line(text, RULES, 'hands')}: {rules.hands!r} does not work outside.",
            "Name an agent that runs on claude or api, or `hands` for the client that asked.",
        )
    return rules


def _spec(name: str, table: Any, text: str, path: Path) -> Spec:
    here = f"{path}, line {_line(text, name)}"
    if not isinstance(table, dict):
        raise InvalidInput(f"{here}: `{name}` stands outside a table.", "Begin each agent with its name: [builder].")
    if not NAME.fullmatch(name) or name in RESERVED:
        raise InvalidInput(
            f"{here}: an agent cannot be named {name!r}.",
            f"Use small letters, digits, - and _, and none of {', '.join(RESERVED)}.",
        )
    values = {"runs_on": "mlx", "role": name, **table, "name": name}
    if "name" in table:
        raise InvalidInput(f"{here}: `name` is not a key.", f"The table's title is the name: [{table['name']}].")
    try:
        spec = _SPEC.validate_python(values)
    except ValidationError as error:
        raise _wrong(name, values, error, text, path) from error
    _check(spec, text, path)
    return spec


def _check(spec: Spec, text: str, path: Path) -> None:
    """What types cannot say."""
    if spec.name == "director" and not (isinstance(spec, LocalSpec) and spec.role == "director"):
        raise InvalidInput(
            f"{path}, line {_line(text, spec.name, 'runs_on')}: the Director runs on mlx, with its own role.",
            "Leave out `runs_on` and `role` here.",
        )
    if spec.name == "director" and spec.instructions:
        raise InvalidInput(
            f"{path}, line {_line(text, spec.name, 'instructions')}: the Director's instructions are its self.",
            "Propose a new self instead (`rewrite_self`), and leave this out.",
        )
    if spec.name == "director" and isinstance(spec, LocalSpec):
        for key, setting in OF_THE_HOUSE.items():
            if getattr(spec, key):
                raise InvalidInput(
                    f"{path}, line {_line(text, spec.name, key)}: the Director's `{key}` is a setting of the house.",
                    f"Set `{setting}` in config.toml, and leave this out.",
                )
    if isinstance(spec, LocalSpec) and spec.checks and spec.name != "controller":
        raise InvalidInput(
            f"{path}, line {_line(text, spec.name, 'checks')}: only [controller] has checks.", "Move them there."
        )
    if isinstance(spec, ClaudeSpec):
        for tool in spec.tools:
            if tool not in CLAUDE_TOOLS and not re.fullmatch(r"(Bash|WebFetch)\([^()\s][^()]*\)", tool):
                raise InvalidInput(
                    f"{path}, line {_line(text, spec.name, 'tools')}: `tools` cannot hold {tool!r}.",
                    f"There are {', '.join(CLAUDE_TOOLS)}, and commands by name: Bash(git status *).",
                )


def _wrong(name: str, values: Mapping[str, Any], error: ValidationError, text: str, path: Path) -> InvalidInput:
    problem = error.errors()[0]
    places = [str(part) for part in problem["loc"] if part not in _KINDS]
    key = places[0] if places else "runs_on"
    line = _line(text, name, key)
    kind = _KINDS.get(str(values.get("runs_on")))
    keys = [one for one in kind.model_fields if one != "name"] if kind else []
    if problem["type"] == "extra_forbidden":
        fact = f"`{key}` is not a key of an agent that runs on {values['runs_on']}"
        return InvalidInput(f"{path}, line {line}: {fact}.", f"Its keys are: {', '.join(keys)}.")
    if problem["type"] == "missing":
        return InvalidInput(
            f"{path}, line {line}: [{name}] has no `{key}`.",
            "Whoever works outside the house needs a folder or a model, and limits.",
        )
    if problem["type"] == "union_tag_invalid":
        return InvalidInput(f"{path}, line {line}: `runs_on` is {values['runs_on']!r}.", "Use mlx, claude or api.")
    shown = repr(problem["input"])[:80]
    return InvalidInput(
        f"{path}, line {line}: `{'.'.join(places)}` cannot be {shown}.", f"{problem['msg'].rstrip('.')}."
    )


def _line(text: str, name: str, key: str = "") -> int:
    """The line of a key in a table, of the table's title where the key is not there; 1 where neither is."""
    title = re.compile(rf"\s*\[\s*[\"']?{re.escape(name)}[\"']?\s*\]")
    wanted = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=") if key else None
    found = 1
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if title.match(line) or (not inside and re.match(rf"\s*{re.escape(name)}\s*=", line)):
            found, inside = number, True
        elif inside and line.lstrip().startswith("["):
            break
        elif inside and wanted and wanted.match(line):
            return number
    return found
