"""The controller: rules find what is wrong, a model is asked only where none can say, and memory hears of changes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest
from mcp import Client

from agents.findings import Findings
from agents.roster import parse
from engine.errors import InvalidInput, Unavailable
from memory.database import Database
from tests.houses import open_house, text
from tests.models import parrot
from tools.house import House
from tools.registry import create_server

pytestmark = pytest.mark.anyio

ALWAYS = "minutes = 0.0000000001\n"
NOTES = "SELECT prose FROM packets WHERE kind = 'note' AND origin LIKE 'controller:%' ORDER BY id"


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder outside the home."""
    folder = Path(tempfile.mkdtemp(prefix="soul-work-"))
    yield folder
    rmtree(folder)


def check(name: str, **keys: str) -> str:
    lines = [f"{key} = {value if value.startswith('[') else repr(value)}" for key, value in keys.items()]
    return f'[[controller.checks]]\nname = "{name}"\n{ALWAYS}' + "\n".join(lines) + "\n"


async def looked(house: House, database: Database) -> list[str]:
    await (await house.agents.get()).controller.look_once()
    return [row["prose"] for row in await database.fetch(NOTES)]


async def test_a_command_is_remembered_when_it_fails_and_when_it_is_right_again(
    home: Path, database: Database, work: Path
) -> None:
    (home / "agents.toml").write_text(
        check("tests", command='["sh", "-c", "echo counted; test -e ok"]', folder=str(work))
    )
    async with open_house(home, database, None, roots=(work,)) as house:
        (first,) = await looked(house, database)
        assert first == "The check tests is wrong: status 1\ncounted"
        assert await looked(house, database) == [first], "what stays as it is is said once"
        async with Client(create_server(house, version="test")) as client:
            assert "check tests is wrong since" in text(await client.call_tool("status", {}))
        (work / "ok").touch()
        assert (await looked(house, database))[1:] == ["The check tests is right again: status 0\ncounted"]


async def test_a_file_that_is_too_old_or_lies_elsewhere_is_found(home: Path, database: Database, work: Path) -> None:
    (work / "backup").touch()
    os.utime(work / "backup", (0, 0))
    tables = (
        check("backup", file=str(work / "backup")) + "older = 60\n",
        check("gone", file=str(work / "gone")) + "older = 60\n",
        check("elsewhere", command='["ls"]', folder="/etc"),
    )
    (home / "agents.toml").write_text("".join(tables))
    async with open_house(home, database, None, roots=(work,)) as house:
        said = await looked(house, database)
    assert ["backup was not written for more than 60 minutes" in said[0], "gone: No such file" in said[1]] == [True] * 2
    assert "/etc, lies outside the allowed roots" in said[2]


async def test_new_lines_of_a_log_are_judged_by_rules_and_only_the_others_by_a_model(
    home: Path, database: Database, work: Path
) -> None:
    log = work / "app.log"
    log.write_text("ERROR of yesterday\n")
    (home / "agents.toml").write_text(check("app", log=str(log), pattern="ERROR", unsure="odd|queer"))
    model = parrot(home / "models" / "p", "Look at it.", prefers={"": "noise", "queer": "matters"})
    async with open_house(home, database, model, roots=(work,)) as house:
        assert await looked(house, database) == []
        with log.open("a") as file:
            file.write("fine\nERROR one\nan odd line\nhalf a li")
        assert await looked(house, database) == ["The check app is wrong: ERROR one"]
        with log.open("a") as file:
            file.write("ne\na queer line\n")
        (said,) = (await looked(house, database))[1:]
        assert said.startswith("The check app is wrong: a queer line\n")
        log.write_text("ERROR in a new log\n")
        (said,) = (await looked(house, database))[2:]
        assert said.startswith("The check app is wrong: ERROR in a new log\nThe check app: ")
        assert "app.log was begun anew; what was added to it behind byte " in said


async def test_after_a_restart_nothing_is_found_twice_and_nothing_is_lost(
    home: Path, database: Database, work: Path
) -> None:
    log = work / "app.log"
    log.write_text("ERROR of yesterday\n")
    failing = check("tests", command='["sh", "-c", "test -e ok"]', folder=str(work))
    (home / "agents.toml").write_text(check("app", log=str(log), pattern="ERROR") + failing)

    async def after_restart() -> list[str]:
        before = len(await database.fetch(NOTES))
        async with open_house(home, database, None, roots=(work,)) as house:
            await looked(house, database)
            return (await looked(house, database))[before:]

    def write(words: str) -> None:
        with log.open("a") as file:
            file.write(words)

    assert await after_restart() == ["The check tests is wrong: status 1\n"]
    write("ERROR one\nERROR tw")
    assert await after_restart() == ["The check app is wrong: ERROR one"]
    write("o\n")
    log.rename(work / "app.log.1")
    log.write_text("ERROR three\n")
    assert await after_restart() == ["The check app is wrong: ERROR two\nERROR three"], "moved aside: read to its end"
    log.write_text("ERROR four, in a log that is longer than the one that was there before\n")
    (said,) = await after_restart()
    assert said.startswith("The check app is wrong: ERROR four, ")
    assert "was begun anew; what was added to it behind byte 12 was not read" in said
    (work / "ok").touch()
    assert await after_restart() == ["The check tests is right again: status 0\n"]
    (home / "agents.toml").write_text("")
    assert await after_restart() == []
    assert not await database.fetch("SELECT FROM checks")


async def test_lines_are_passed_over_only_when_their_finding_is_written(
    home: Path, database: Database, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = work / "app.log"
    log.touch()
    (home / "agents.toml").write_text(check("app", log=str(log), pattern="ERROR"))
    async with open_house(home, database, None, roots=(work,)) as house:
        await looked(house, database)
        log.write_text("ERROR one\n")

        async def broken(*_: object) -> None:
            raise Unavailable("The database is away.", "Wait.")

        with monkeypatch.context() as patch:
            patch.setattr(Findings, "keep", broken)
            with pytest.raises(Unavailable):
                await looked(house, database)
        assert not await database.fetch(NOTES)
        assert await looked(house, database) == ["The check app is wrong: ERROR one"]


def test_a_check_that_cannot_be_is_named() -> None:
    for body, words in (
        (check("a"), "give one of `command`, `file` and `log`"),
        (check("a", command='["ls"]'), "a command needs a `folder`"),
        (check("a", log="x", pattern="("), "is no pattern"),
        ('[critic]\n[[critic.checks]]\nname = "a"\nfile = "x"\nolder = 1\n', r"only \[controller\] has checks"),
    ):
        with pytest.raises(InvalidInput, match=words):
            parse(body, Path("agents.toml"))
