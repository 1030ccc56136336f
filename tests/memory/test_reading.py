"""What stands in files of all kinds, and what is said of those that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memory.files import Listing, listing
from memory.markup import plain
from memory.places import citation
from memory.reading import FILE_MB, NotText, decoded, load, parts_of
from memory.sources import Source, read_sources
from tests.memory import documents as made

pytestmark = pytest.mark.anyio


async def read(root: Path) -> dict[str, Source]:
    found: Listing = listing(root)
    return {one.path: one async for batch in read_sources(found, found.files, {}, FILE_MB) for one in batch}


def cited(source: Source) -> dict[str, str]:
    """Citation to text."""
    return {citation(source.path, metadata): chunk.text for chunk, metadata in source.passages or ()}


async def test_a_page_is_cited_by_its_number(tmp_path: Path):
    (tmp_path / "paper.pdf").write_bytes(made.pdf(["Quinces are sour.", "", "Medlars are sweet."]))
    assert cited((await read(tmp_path))["paper.pdf"]) == {
        "paper.pdf:p1": "Quinces are sour.",
        "paper.pdf:p3": "Medlars are sweet.",
    }


async def test_a_word_file_is_cited_by_its_paragraphs_and_keeps_headings_and_tables(tmp_path: Path):
    long = "The quince is sour and hard. " * 40
    (tmp_path / "letter.docx").write_bytes(made.word("# Fruit", long, table=[["quince", "sour"], ["medlar", "sweet"]]))
    source = (await read(tmp_path))["letter.docx"]
    passages = cited(source)
    assert passages["letter.docx:¶2-4"].endswith("\nquince | sour\nmedlar | sweet")
    assert [metadata.get("headings") for _, metadata in source.passages or ()][-1] == ["Fruit"]


async def test_a_cell_is_cited_by_its_number_and_what_it_printed_is_left_out(tmp_path: Path):
    data = made.notebook(("markdown", "# Study\n\nOn quinces."), ("code", "x = 1\nprint(x)"))
    (tmp_path / "study.ipynb").write_bytes(data)
    assert cited((await read(tmp_path))["study.ipynb"]) == {
        "study.ipynb:cell 1:1-3": "# Study\n\nOn quinces.",
        "study.ipynb:cell 2:1-2": "x = 1\nprint(x)",
    }


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("locked.pdf", made.pdf(["secret"], password="x"), "encrypted: a password is needed"),
        ("scan.pdf", made.pdf([""]), "no text in it: scanned pages?"),
        ("cut.pdf", made.pdf(["words"])[:200], "a broken PDF"),
        ("no.pdf", b"this is no PDF", "a broken PDF"),
        ("bomb.docx", made.bomb(101), "unpacks to 10"),
        ("cut.docx", made.word("words")[:-100], "a broken Word file"),
        ("no.docx", b"this is no Word file", "a broken Word file"),
        ("old.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "encrypted, or of Word before 2007"),
        ("empty.docx", made.word(), "no text in it"),
        ("no.ipynb", b"{]", "a broken notebook"),
        ("odd.ipynb", b'{"cells": [1, 2]}', "a broken notebook"),
        ("deep.ipynb", b"[" * 100_000, "a broken notebook"),
    ],
)
async def test_an_unreadable_document_says_why(tmp_path: Path, name: str, data: bytes, reason: str):
    (tmp_path / name).write_bytes(data)
    source = (await read(tmp_path))[name]
    assert source.reason.startswith(reason)
    assert source.passages is None


async def test_a_password_that_is_empty_keeps_nobody_out(tmp_path: Path):
    (tmp_path / "open.pdf").write_bytes(made.pdf(["Quinces are sour."], password=""))
    assert list(cited((await read(tmp_path))["open.pdf"]).values()) == ["Quinces are sour."]


def test_html_is_read_as_a_browser_shows_it_at_the_lines_of_the_file():
    html = (
        "<html><head><title>Orchard</title>\n<style>p { color: red }</style>\n<script>\nlet x = '<p>no</p>'\n</script>"
        "</head>\n<body><h1>\n  Trees</h1>\n<p>The &quot;quince&quot;\n   tree.</p><pre>a\n  b</pre>"
        "<h2>Next</h2>\n</body>"
    )
    lines = plain(html).split("\n")
    assert lines[0].strip() == "Orchard"
    assert "# Trees" in [line.strip() for line in lines]
    assert lines[7].strip() == 'The "quince"'
    assert lines[8].strip().startswith("tree.")
    assert "  b" in lines[9]
    assert not any("color" in line or "let x" in line for line in lines)


@pytest.mark.parametrize(
    "html", ["<", "<p", "</p></p></script>", "<script>", "<h1><h1><h1>", "&#xfffffff;", "<!--" * 99]
)
def test_broken_html_is_read_all_the_same(html: str):
    assert isinstance(plain(html + "\n"), str)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Käse\n".encode(), "Käse\n"),
        (b"\xef\xbb\xbfa\nb", "a\nb"),
        ("a\nÄ".encode("utf-16"), "a\nÄ"),
        ("a\nÄ".encode("utf-32"), "a\nÄ"),
        (("Die Straße führt über die Brücke nach Süden. " * 5).encode("cp1252"), None),
        (("Съешь же ещё этих мягких французских булок. " * 5).encode("cp1251"), None),
        (b"caf\xe9", "café"),
        ("Öl und Käse. ".encode() * 50 + b"\xe9" + "Öl. ".encode() * 50, None),
    ],
)
def test_text_is_read_in_the_encoding_it_most_probably_has(data: bytes, text: str | None):
    read = decoded(data).text
    if text is not None:
        assert read == text
    else:
        assert any(word in read for word in ("Straße führt über", "французских булок", "Öl und Käse. Öl und Käse."))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n\x00\x00", "binary"),
        ("a.bin", bytes(range(1, 256)) * 20, "binary"),
        ("a.txt", b"", "empty"),
        ("a.txt", b" \n\t\n", "empty"),
        ("a.txt", b"\xff\xfea", "broken UTF-16"),
        ("a.html", b"<script>x</script>", "no text in it"),
        ("a.json", b'{"a": "' + b"word " * 5_000 + b'"}\n', "packed data: a line of 25,00"),
    ],
)
def test_what_is_not_text_says_why(name: str, data: bytes, reason: str):
    with pytest.raises(NotText) as caught:
        parts_of(name, data)
    assert caught.value.reason.startswith(reason)


def test_prose_on_an_endless_line_is_read():
    line = "word " * 50_000
    assert parts_of("a.md", line.encode()).parts[0].text == line


async def test_an_endless_line_is_split_into_passages(tmp_path: Path):
    (tmp_path / "words.txt").write_text("word " * 100_000)
    (tmp_path / "letters.txt").write_text("x" * 2_000_000)
    for source in (await read(tmp_path)).values():
        assert max(len(chunk.text) for chunk, _ in source.passages or ()) <= 850


def test_an_enormous_file_is_not_read_and_the_setting_is_named(tmp_path: Path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(8_000_001)
    with pytest.raises(NotText, match=r"larger than 8 MB \(8\.0 MB\); the limit is the setting `corpus_file_mb`"):
        load(tmp_path / "big", FILE_MB)
    assert len(load(tmp_path / "big", 9).data) == 8_000_001


def test_links_pipes_and_what_is_gone_are_passed_over(tmp_path: Path):
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("link", "cannot be read"), ("pipe", "not a file"), ("never", "gone while it was being read")):
        with pytest.raises(NotText, match=reason):
            load(tmp_path / name, FILE_MB)


def test_a_file_that_was_just_written_has_no_stamp_and_an_old_one_has(tmp_path: Path):
    (tmp_path / "new").write_text("a")
    assert load(tmp_path / "new", FILE_MB).stamp == ""
    assert load(Path(os.__file__), FILE_MB).stamp


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.txt"])
def test_line_ends_are_made_alike(name: str):
    assert [line.strip() for line in parts_of(name, b"a\r\nb\rc").parts[0].text.split("\n")] == ["a", "b", "c"]
