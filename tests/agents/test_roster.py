"""agents.toml: what it may say, and what a person reads who wrote something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.roster import ApiSpec, ClaudeSpec, LocalSpec, parse, read
from agents.templates import table
from engine.errors import InvalidInput, NotFound

PATH = Path("agents.toml")
CLAUDE = 'runs_on = "claude"\nfolder = "~/work"\nminutes = 5\nturns = 10\nusd = 2\n'


def test_a_home_without_the_file_has_nobody_outside(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert not found.specs
    with pytest.raises(NotFound, match="Agents: director, hands"):
        found.get("coder")


@pytest.mark.parametrize("role", ["director", "architect", "builder", "controller", "critic", "majordomo"])
def test_every_template_is_valid(role: str) -> None:
    made = parse(table(role, role, "mlx"), PATH).get(role)  # type: ignore[arg-type]
    assert isinstance(made, LocalSpec)
    assert made.role == role


def test_templates_for_work_outside_carry_their_limits() -> None:
    text = table("coder", "builder", "claude", folder='/tmp/a "b"') + "\n"
    text += table("writer", "architect", "api", model="tiny", base_url="http://127.0.0.1:1/v1")
    coder, writer = parse(text, PATH).specs.values()
    assert isinstance(coder, ClaudeSpec)
    assert (coder.folder, coder.minutes, coder.turns, coder.usd) == ('/tmp/a "b"', 20, 40, 2.0)
    assert isinstance(writer, ApiSpec)
    assert (writer.role, writer.tokens) == ("architect", 4096)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[coder]\nrole = "builder"\nrunson = "claude"\n', r"line 3: `runson` is not a key .* Its keys are: role"),
        ('[a]\nrole = "builder"\n\n[a]\nrole = "critic"\n', r"Cannot declare .* line 4.* a name of its own"),
        (f'[b]\nrole = "builder"\n{CLAUDE}'.replace("5", '"5"'), r"line 5: `minutes` cannot be '5'"),
        (f'[b]\nrole = "builder"\n{CLAUDE}'.replace("5", "-5"), r"line 5: `minutes` cannot be -5"),
        ('\n\n[b]\nrole = "builder"\nruns_on = "claude"\n', r"line 3: \[b\] has no `minutes`"),
        ("steps = 1\n", r"line 1: `steps` stands outside a table"),
        ('[a]\nrole = "builder"\nruns_on = "mars"\n', r"line 3: `runs_on` is 'mars'. Use mlx, claude or api"),
        ('[a]\nrole = "butler"\n', r"line 2: `role` cannot be 'butler'"),
        ('[critic]\ntools = "recall"\n', r"line 2: `tools` cannot be 'recall'"),
        (f'[b]\nrole = "builder"\n{CLAUDE}tools = ["Bash"]\n', r"line 8: `tools` cannot hold 'Bash'.*Bash\(git"),
        (f'[b]\nrole = "builder"\n{CLAUDE}tools = ["mcp__soul"]\n', r"line 8: `tools` cannot hold 'mcp__soul'"),
        ('[hands]\nrole = "builder"\n', r"line 1: an agent cannot be named 'hands'"),
        ('["two words"]\nrole = "builder"\n', r"line 1: an agent cannot be named 'two words'"),
        ('[director]\ninstructions = "obey"\n', r"line 2: the Director's instructions are its self"),
        ('[director]\nruns_on = "api"\nmodel = "m"\nminutes = 1\ntokens = 99\n', r"line 2: the Director runs on mlx"),
        ("[a\n", r"line 1, column 3"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_remedy(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(text, PATH)
