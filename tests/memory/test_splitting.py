"""Chunks know their lines and their headings, and lose no word."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.splitting import CODE_CHARACTERS, PROSE_CHARACTERS, split

MARKDOWN = """# Soul

Intro.

## Memory

Packets are kept.

```sh
# not a heading
```

### Recall

Found again.

## Engine

Tokens.
"""


def test_lines_are_those_an_editor_shows():
    text = "\n".join(f"line {n} " + "x" * 60 for n in range(1, 101))
    lines = text.split("\n")
    chunks = split(text, PurePosixPath("notes.txt"))
    assert len(chunks) > 5
    for chunk in chunks:
        assert chunk.text.split("\n") == lines[chunk.first_line - 1 : chunk.last_line]


def test_markdown_chunks_know_the_headings_above_them():
    text = MARKDOWN.replace("Found again.", "Found again. " * 80).replace("Tokens.", "Tokens. " * 150)
    by_word = {
        word: chunk
        for chunk in split(text, PurePosixPath("a.md"))
        for word in ("Found", "Tokens")
        if word in chunk.text
    }
    assert by_word["Found"].headings[:2] == ("Soul", "Memory")
    assert by_word["Tokens"].headings == ("Soul", "Engine")


def test_chunks_stay_below_their_size():
    prose = split("Some words of prose. " * 500, PurePosixPath("a.txt"))
    code = split("\n\n".join(f"def f{n}(x):\n    return x + {n}" for n in range(200)), PurePosixPath("a.py"))
    assert max(len(chunk.text) for chunk in prose) <= PROSE_CHARACTERS
    assert max(len(chunk.text) for chunk in code) <= CODE_CHARACTERS


def test_python_is_cut_between_functions():
    body = "\n".join(f"    value_{n} = {n}" for n in range(20))
    chunks = split("\n\n\n".join(f"def function_{n}():\n{body}" for n in range(10)), PurePosixPath("a.py"))
    assert all(chunk.text.startswith("def function_") for chunk in chunks)


SAMPLES = {
    "go": "func f{n}() int {{\n{body}\n}}",
    "rs": "fn f{n}() -> i32 {{\n{body}\n}}",
    "ts": "function f{n}(): number {{\n{body}\n}}",
    "tsx": "function f{n}(): number {{\n{body}\n}}",
    "js": "function f{n}() {{\n{body}\n}}",
    "c": "int f{n}(void) {{\n{body}\n}}",
    "cpp": "int f{n}() {{\n{body}\n}}",
    "java": "class F{n} {{\n{body}\n}}",
    "cs": "class F{n} {{\n{body}\n}}",
    "swift": "func f{n}() -> Int {{\n{body}\n}}",
    "sh": "f{n}() {{\n{body}\n}}",
    "rb": "def f{n}\n{body}\nend",
}


@pytest.mark.parametrize("suffix", SAMPLES)
def test_code_is_cut_between_its_functions(suffix: str):
    body = "\n".join(f"    call{n}({n}){'' if suffix in ('rb', 'sh', 'swift') else ';'}" for n in range(22))
    if suffix in ("java", "cs"):
        body = "\n".join(f"    int value{n} = {n};" for n in range(20))
    if suffix == "sh":
        body = body.replace("(", " ").replace(")", "")
    functions = [SAMPLES[suffix].format(n=n, body=body) for n in range(6)]
    chunks = split("\n\n\n".join(functions), PurePosixPath(f"a.{suffix}"))
    assert len(chunks) > 2
    assert [function for chunk in chunks for function in chunk.text.split("\n\n\n")] == functions


def test_broken_python_is_split_all_the_same():
    text = "def broken(:\n    ((( " * 200
    kept = "".join(chunk.text for chunk in split(text, PurePosixPath("a.py")))
    assert "".join(kept.split()) == "".join(text.split())


@given(
    st.text(alphabet=st.sampled_from("ab#` \n\t.é我"), max_size=3000),
    st.sampled_from(["a.md", "a.py", "a.txt", "a.rs"]),
)
def test_nothing_but_whitespace_is_lost(text: str, name: str):
    chunks = split(text, PurePosixPath(name))
    kept = "".join("".join(chunk.text.split()) for chunk in chunks)
    assert kept == "".join(text.split())
