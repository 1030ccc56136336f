"""Downloads from a hub on the loopback: progress, breaks, damage, and every way in which a model cannot be had."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from engine import hub as hub_module
from engine.engine import Engine, EngineConfig
from engine.errors import Forbidden, InvalidInput, NotFound, StorageFull, Unavailable
from engine.hub import Hub
from engine.resolve import resolve
from engine.seedling.weights import seedling
from tests.engine.loopback_hub import LoopbackHub, serve
from tests.engine.test_generation import say
from tests.models import parrot

NAME = "house/parrot-1"


def silent(_stage: str, _share: float | None) -> None:
    """Reports nothing."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks into the person's own cache of models or sends a token of theirs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "shared-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    # The models of these tests are smaller than one block of 10 MB.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[LoopbackHub]:
    folder = parrot(tmp_path / "origin", "Good morning.")
    (folder / "soul.json").unlink()
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    with serve(LoopbackHub({NAME: folder})) as hub:
        yield hub


@pytest.fixture
def hub(remote: LoopbackHub, tmp_path: Path) -> Hub:
    return Hub(tmp_path / "models", endpoint=remote.endpoint)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_model_arrives_whole_with_progress_and_without_code(hub: Hub, remote: LoopbackHub, tmp_path: Path) -> None:
    shares: list[float] = []
    folder = hub.download(NAME, lambda _stage, share: shares.append(share or 0.0))
    assert folder == tmp_path / "models" / "house--parrot-1"
    assert weights(folder) == weights(remote.repositories[NAME])
    assert not list(folder.glob("*.py"))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert hub.kept(NAME) == folder


def test_a_break_in_mid_file_is_resumed_where_it_was(hub: Hub, remote: LoopbackHub) -> None:
    remote.breaks = [1_000_000]
    folder = hub.download(NAME, silent)
    assert weights(folder) == weights(remote.repositories[NAME])
    assert [first for file, first in remote.ranges if file == "model.safetensors"] == [0, 1_000_000]


def test_a_download_that_was_stopped_goes_on_in_the_next_process(hub: Hub, remote: LoopbackHub) -> None:
    def stop(_stage: str, share: float | None) -> None:
        if share and share > 0.3:
            hub.stop()

    remote.breaks = [1_500_000]
    with pytest.raises(Unavailable, match=r"was stopped\. Call again; it goes on where it was"):
        hub.download(NAME, stop)
    later = Hub(hub.models, endpoint=remote.endpoint)
    shares: list[float] = []
    folder = later.download(NAME, lambda _stage, share: shares.append(share or 0.0))
    assert weights(folder) == weights(remote.repositories[NAME])
    firsts = [first for file, first in remote.ranges if file == "model.safetensors"]
    assert len(firsts) == 2
    assert firsts[1] > 0
    assert shares == sorted(shares)


def test_a_damaged_file_is_fetched_again(hub: Hub, remote: LoopbackHub) -> None:
    remote.damages = 1
    assert weights(hub.download(NAME, silent)) == weights(remote.repositories[NAME])


def test_a_file_that_is_damaged_again_is_not_taken(hub: Hub, remote: LoopbackHub) -> None:
    remote.damages = 2
    with pytest.raises(Unavailable, match=r"model.safetensors of house/parrot-1 arrived damaged twice"):
        hub.download(NAME, silent)
    assert hub.kept(NAME) is None


def test_a_wrong_name_is_told(hub: Hub) -> None:
    with pytest.raises(NotFound, match=r"There is no model house/parrot-7 .*spelling"):
        hub.download("house/parrot-7", silent)


def test_a_gated_model_names_the_way_in(hub: Hub, remote: LoopbackHub) -> None:
    remote.gated.add(NAME)
    with pytest.raises(Forbidden, match=r"is gated.*hf auth login"):
        hub.download(NAME, silent)


def test_a_hub_that_is_down_is_told(hub: Hub, remote: LoopbackHub) -> None:
    remote.down = True
    with pytest.raises(Unavailable, match=r"could not be fetched.*what has arrived is kept"):
        hub.download(NAME, silent)


def test_no_network_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"could not be fetched.*[Cc]onnect.*Without a network, name a folder"):
            Hub(tmp_path / "models", endpoint=nobody).download(NAME, silent)


def test_a_full_disk_is_told_before_anything_is_fetched(
    hub: Hub, remote: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SPARE_BYTES", 10**18)
    with pytest.raises(StorageFull, match=r"house/parrot-1 needs 0.0 GB more.*smaller model"):
        hub.download(NAME, silent)
    assert remote.ranges == []


def test_a_repository_without_safetensors_is_refused(hub: Hub, remote: LoopbackHub, tmp_path: Path) -> None:
    other = tmp_path / "gguf"
    other.mkdir()
    (other / "config.json").write_text("{}")
    remote.repositories["house/gguf"] = other
    with pytest.raises(InvalidInput, match="no safetensors weights"):
        hub.download("house/gguf", silent)


def test_the_endpoint_of_the_environment_is_used(
    remote: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", remote.endpoint)
    assert Hub(tmp_path / "models").download(NAME, silent).is_dir()


def find(wish: str | None, hub: Hub, *, download: bool = True, memory: int = 16 * 10**9) -> Path:
    return resolve(wish, hub, download=download, memory_bytes=memory, report=silent)


def test_a_folder_is_used_as_it_is(hub: Hub, remote: LoopbackHub) -> None:
    folder = remote.repositories[NAME]
    assert find(str(folder), hub) == folder
    assert remote.ranges == []


def test_what_is_neither_folder_nor_name_is_told(hub: Hub) -> None:
    with pytest.raises(InvalidInput, match="neither a folder nor a hub name"):
        find("parrot", hub)
    with pytest.raises(InvalidInput, match="does not exist"):
        find("./nowhere/at-all", hub)


def test_without_downloads_a_name_must_be_on_disk(hub: Hub, remote: LoopbackHub) -> None:
    with pytest.raises(NotFound, match="downloads are switched off"):
        find(NAME, hub, download=False)
    folder = hub.download(NAME, silent)
    asked = len(remote.ranges)
    assert find(NAME, hub, download=False) == folder
    assert len(remote.ranges) == asked


def test_without_a_wish_the_best_on_disk_is_taken(hub: Hub, remote: LoopbackHub) -> None:
    folder = hub.download(NAME, silent)
    torn = hub.models / "torn"
    shutil.copytree(folder, torn)
    (torn / "model.safetensors").write_bytes(b"short")
    assert find("seedling", hub) == seedling()
    assert find(None, hub) == folder


def test_without_wish_disk_or_network_there_is_the_seedling(hub: Hub, remote: LoopbackHub) -> None:
    remote.down = True
    assert find(None, hub) == seedling()
    assert find(None, hub, download=False) == seedling()


def test_a_recommended_model_is_fetched_where_it_is_allowed(hub: Hub, remote: LoopbackHub) -> None:
    remote.repositories["mlx-community/Qwen3-14B-4bit"] = remote.repositories.pop(NAME)
    assert find(None, hub).name == "mlx-community--Qwen3-14B-4bit"


@pytest.mark.anyio
async def test_the_engine_downloads_and_speaks(remote: LoopbackHub, tmp_path: Path) -> None:
    stages: list[tuple[str, float | None]] = []
    config = EngineConfig(tmp_path, model=NAME, hub_endpoint=remote.endpoint)
    async with Engine.open(config, lambda stage, share: stages.append((stage, share))) as engine:
        assert engine.info.name == NAME
        assert engine.info.trained
        await engine.start("a", [])
        end = await say(engine, "a", [*engine.chat.turn("user", "hello"), *engine.chat.reply_start()])
        assert end.text == "Good morning."
    assert ("downloading", 1.0) in stages
    assert stages[-1] == ("hashing weights", 1.0)


@pytest.mark.anyio
async def test_a_cancelled_opening_stops_its_download(remote: LoopbackHub, tmp_path: Path) -> None:
    config = EngineConfig(tmp_path, model=NAME, hub_endpoint=remote.endpoint)
    with anyio.CancelScope() as scope:
        async with Engine.open(config, lambda stage, _share: scope.cancel() if stage == "downloading" else None):
            raise AssertionError("the engine opened although it was cancelled")
    assert not (tmp_path / "models" / "house--parrot-1").exists()
