"""What belongs to a folder, what is text, and what a path may be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from engine.errors import Forbidden, InvalidInput, NotFound
from memory import files
from memory.files import listing, resolved


def make(root: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(root: Path) -> list[str]:
    return [file.path for file in listing(root).files]


def git(root: Path, *arguments: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)


def test_a_plain_folder_gives_its_files_without_hidden_and_generated_ones(tmp_path: Path):
    make(tmp_path, a_dot_md="a", sub__b_dot_py="b", node_modules__c_dot_js="c", uv_dot_lock="d")
    make(tmp_path / ".git", config="x")
    (tmp_path / ".env").write_text("SECRET=1")
    found = listing(tmp_path)
    assert [file.path for file in found.files] == ["a.md", "sub/b.py"]
    assert ("uv.lock", "generated") in found.skipped


def test_ignore_files_are_obeyed_at_every_level(tmp_path: Path):
    make(
        tmp_path,
        keep_dot_log="1",
        drop_dot_log="2",
        build__x_dot_txt="3",
        sub__only_dot_txt="4",
        sub__other_dot_txt="5",
    )
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (tmp_path / "sub" / ".gitignore").write_text("only.txt\n")
    assert names(tmp_path) == ["keep.log", "sub/other.txt"]


def test_a_checkout_gives_tracked_and_new_files_and_no_deleted_ones(tmp_path: Path):
    make(tmp_path, tracked_dot_md="1", deleted_dot_md="2", new_dot_md="3", ignored_dot_md="4")
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("ignored.md\n")
    git(tmp_path, "add", "tracked.md", "deleted.md")
    (tmp_path / "deleted.md").unlink()
    assert names(tmp_path) == ["new.md", "tracked.md"]


def test_a_program_named_by_a_checkouts_configuration_is_not_run(tmp_path: Path):
    make(tmp_path, a_dot_md="1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "core.fsmonitor", f"touch {tmp_path}/ran; false")
    assert "a.md" in names(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_links_are_not_followed(tmp_path: Path):
    outside = make(tmp_path / "outside", secret_dot_txt="s")
    root = make(tmp_path / "root", a_dot_txt="a")
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    found = listing(root)
    assert [file.path for file in found.files] == ["a.txt"]
    assert ("link.txt", "a link") in found.skipped


def test_a_folder_that_became_a_link_is_not_followed_though_git_lists_its_files(tmp_path: Path):
    outside = make(tmp_path / "outside", a_dot_md="secret")
    root = make(tmp_path / "root", sub__a_dot_md="mine", b_dot_md="b")
    git(root, "init", "-q")
    git(root, "add", "-A")
    (root / "sub" / "a.md").unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to(outside)
    found = listing(root)
    assert [file.path for file in found.files] == ["b.md"]
    assert ("sub/a.md", "a link") in found.skipped


def test_names_that_cannot_be_stored_are_said(tmp_path: Path):
    make(tmp_path, a_dot_md="1")
    for name in (b"\xff.md", b"\x01.md"):
        (tmp_path / os.fsdecode(name)).write_text("x")
    (tmp_path / os.fsdecode(b"\xfe")).mkdir()
    (tmp_path / os.fsdecode(b"\xfe/b.md")).write_text("x")
    found = listing(tmp_path)
    assert [file.path for file in found.files] == ["a.md"]
    assert {reason for _, reason in found.skipped} == {"its name is not plain UTF-8"}
    assert len(found.skipped) == 2


def test_one_file_is_a_corpus_too(tmp_path: Path):
    make(tmp_path, a_dot_md="a", b_dot_md="b")
    assert names(tmp_path / "a.md") == ["a.md"]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MAX_FILES", 2)
    make(tmp_path, a="1", b="2", c="3")
    with pytest.raises(InvalidInput, match="further down"):
        listing(tmp_path)


def test_a_device_is_no_corpus():
    with pytest.raises(InvalidInput, match="neither a file nor a folder"):
        listing(Path("/dev/null"))


def test_paths_outside_the_allowed_roots_are_forbidden_also_through_links(tmp_path: Path):
    inside = make(tmp_path / "inside", a="a")
    outside = make(tmp_path / "outside", a="a")
    (inside / "way").symlink_to(outside)
    assert resolved(inside, [inside]) == inside.resolve()
    for path in (outside, inside / "way", inside / ".." / "outside"):
        with pytest.raises(Forbidden, match="allowed_roots"):
            resolved(path, [inside])


def test_unusable_paths_say_why(tmp_path: Path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(NotFound, match="nothing at"):
        resolved(tmp_path / "missing", [tmp_path])
    with pytest.raises(InvalidInput, match="circle"):
        resolved(tmp_path / "a", [tmp_path])
    with pytest.raises(InvalidInput, match="no usable path"):
        resolved(Path("x\x00y"), [tmp_path])
    with pytest.raises(InvalidInput, match="no usable path"):
        resolved(tmp_path / ("x" * 5000), [tmp_path])
