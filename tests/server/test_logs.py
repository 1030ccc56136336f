"""Log lines hold no secrets and their files stay small."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from server import logs


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configured = structlog.get_config()
    yield tmp_path
    for one in root.handlers:
        if one not in before:
            one.close()
    root.handlers, root.level = before, level
    structlog.configure(**configured)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("connecting to postgresql://me:hunter22@db/soul", "hunter22"),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ("api_key=abcdef123456 and more", "abcdef123456"),
        ('{"password": "hunter2222"}', "hunter2222"),
        ("using sk-ant-api03-abcdefghijklmnop", "abcdefghijklmnop"),
        ("hf_abcdefghijklmnopqrstuvwx", "abcdefghijklmnopqrstuvwx"),
        ("ghp_abcdefghijklmnopqrstuvwx", "abcdefghijklmnopqrstuvwx"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "abc"),
    ],
)
def test_credentials_are_redacted(text: str, secret: str) -> None:
    assert secret not in logs.redacted(text)
    assert "[redacted]" in logs.redacted(text)


@pytest.mark.parametrize(
    "text", ["12 tokens used, 40 left", "https://example.org/a:b@c", "the secret of good soup", "a password is needed"]
)
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert logs.redacted(text) == text


def test_lines_are_json_with_what_was_bound(folder: Path) -> None:
    logs.configure(folder, "info", foreground=False)
    with structlog.contextvars.bound_contextvars(client="test"):
        structlog.get_logger("here").info("it happened", http_token="abc", nested={"password": "abc", "n": [1]})
        logging.getLogger("elsewhere").warning("token=abcdefgh")
    first, second = (json.loads(line) for line in (folder / "daemon.log").read_text().splitlines())
    assert first["event"] == "it happened"
    assert first["client"] == second["client"] == "test"
    assert first["http_token"] == first["nested"]["password"] == "[redacted]"
    assert second["event"] == "token=[redacted]"


def test_the_files_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    logs.configure(folder, "info", foreground=False)
    for number in range(200):
        structlog.get_logger().info("a line that says something", number=number)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert len(sizes) == logs.FILES_KEPT
    assert max(sizes) <= 2000
