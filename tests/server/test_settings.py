"""Settings: four sources, the stronger wins, and what is wrong is named with its file and key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import server
from engine.errors import InvalidInput
from server import settings
from server.settings import TOOLSETS, load, shown


def load_from(home: Path, toml: str = "", flags: dict[str, object] | None = None, **variables: str) -> settings.Loaded:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(toml)
    return load(str(home), flags, variables)


def test_each_source_is_stronger_than_the_one_before_it(home: Path) -> None:
    toml = "idle_minutes = 1\nhttp_port = 1001\nlog_level = 'debug'\n"
    loaded = load_from(home, toml, {"http_port": "1003"}, SOUL_HTTP_PORT="1002", SOUL_IDLE_MINUTES="2")
    assert (loaded.settings.log_level, loaded.settings.idle_minutes, loaded.settings.http_port) == ("debug", 2.0, 1003)
    assert loaded.origins["prefill_chunk"] == "default"
    assert loaded.origins["log_level"] == str(home / "config.toml")
    assert loaded.origins["idle_minutes"] == "variable SOUL_IDLE_MINUTES"
    assert loaded.origins["http_port"] == "flag --http-port"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("idle_minuts = 3", "unknown key `idle_minuts`. Did you mean `idle_minutes`?"),
        ("idle_minutes = 'soon'", "`idle_minutes` must be a number of minutes, not 'soon'"),
        ("http_port = 70000", "`http_port` must be from 0 to 65535"),
        ("http_port = 80.5", "`http_port` must be a whole number"),
        ("context_tokens = 3", "`context_tokens` must be at least 512"),
        ("pressure = 0.4", "`pressure` must be from 0.5 to 0.99, not 0.4"),
        ("pressure = 'high'", "`pressure` must be a number from 0.5 to 0.99, not 'high'"),
        ("notebook_tokens = 3", "`notebook_tokens` must be from 128 to 32768"),
        ("download = 'maybe'", "`download` must be true or false"),
        ("model = ''", "`model` must be a text that is not empty"),
        ("model = 3", "`model` must be a text"),
        ("allowed_roots = [1]", "`allowed_roots` must be a list of texts"),
        ("toolsets = ['memory', 'nonsense']", "must be one or more of memory, agents, self, status, not 'nonsense'"),
        ("log_level = 'loud'", "`log_level` must be one of debug"),
        ("http_token = 7", "not (a secret)"),
        ("model = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(home: Path, toml: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_from(home, toml)
    assert str(home / "config.toml") in str(caught.value)
    assert said in str(caught.value)


def test_what_is_wrong_in_a_variable_or_a_flag_is_named(home: Path) -> None:
    with pytest.raises(InvalidInput, match="variable SOUL_HTTP_PORT must be a whole number"):
        load_from(home, SOUL_HTTP_PORT="many")
    with pytest.raises(InvalidInput, match="flag --http-port must be a whole number"):
        load_from(home, flags={"http_port": "many"})


def test_a_file_that_is_not_text_is_named(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not valid TOML"):
        load(str(home), environment={})


def test_paths_stand_on_the_home_and_links_are_followed(home: Path) -> None:
    loaded = load_from(home, "adapter = 'adapters/one'\nallowed_roots = ['books', '/srv']\n")
    assert loaded.settings.adapter == home.resolve() / "adapters/one"
    assert loaded.settings.allowed_roots == (home.resolve() / "books", Path("/srv"))


def test_without_allowed_roots_the_persons_folder_is_allowed(home: Path) -> None:
    assert load_from(home).settings.allowed_roots == (Path.home().resolve(),)


def test_secrets_are_never_shown(home: Path) -> None:
    loaded = load_from(home, SOUL_HTTP_TOKEN="s3cret", SOUL_DATABASE_URL="postgresql://me:s3cret@db/soul")
    assert "s3cret" not in str(shown(loaded))


def test_the_toolsets_are_those_of_the_registry() -> None:
    from tools.registry import TOOLSETS as REGISTERED

    assert set(TOOLSETS) == set(REGISTERED)


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == server.VERSION
