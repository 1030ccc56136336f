"""The house's own rules, read from its source: imports run one way, and what only one room may touch stays there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "engine": set[str](),
    "memory": {"engine"},
    "agents": {"memory", "engine"},
    "evolution": {"memory", "engine"},
    "tools": {"agents", "evolution", "memory", "engine"},
    "server": {"tools", "agents", "evolution", "memory", "engine"},
    "training": {"tools", "agents", "memory", "engine"},
}
FIRST_PARTY = set(MAY_IMPORT)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import in a file, those inside functions and type checks too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield node.lineno, (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", sorted(FIRST_PARTY))
def test_imports_run_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for line, name in imports(path)
        if name in FIRST_PARTY - {package} - MAY_IMPORT[package]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("mcp", {"tools", "server", "training"}),
        ("mcp_types", {"tools", "server", "training"}),
        ("asyncpg", {"memory", "agents"}),
        ("mlx", {"engine", "evolution"}),
        ("mlx_lm", {"engine", "evolution", "training"}),
    ],
)
def test_a_library_stays_in_its_rooms(library: str, rooms: set[str]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in FIRST_PARTY - rooms
        for path in (ROOT / package).rglob("*.py")
        for line, name in imports(path)
        if name == library
    ]
    assert not wrong


def test_no_folder_below_tests_is_a_package_that_could_shadow_the_house() -> None:
    found = [path for path in (ROOT / "tests").rglob("__init__.py") if "node_modules" not in path.parts]
    assert not found
