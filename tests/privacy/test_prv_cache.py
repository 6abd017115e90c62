import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dpbench.privacy import prv, prv_cache

ASKED: Mapping[str, Any] = {
    "noise_multiplier": 1.0,
    "sample_rate": 0.04,
    "steps": 22,
    "delta": 1e-5,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the cache, which is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "dpbench" / "epsilon_prv"


def test_opacus_is_asked_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prv_cache.epsilon(**ASKED)
    assert first == prv.epsilon(**ASKED)
    monkeypatch.setattr(prv, "epsilon", lambda **_: (0.5, None))
    assert prv_cache.epsilon(**ASKED) == first
    assert prv_cache.epsilon(**{**ASKED, "steps": 23}) == (0.5, None)
    monkeypatch.setattr(prv_cache, "_versions", lambda: ("of another Opacus",))
    assert prv_cache.epsilon(**ASKED) == (0.5, None)
    assert len(list(folder.iterdir())) == 3


def test_what_cannot_be_read_is_computed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prv, "epsilon", lambda **_: (0.5, None))
    prv_cache.epsilon(**ASKED)
    (file,) = folder.iterdir()
    for text in ("", "{}", "[1]", json.dumps({"epsilon_prv": None})):
        file.write_text(text)
        assert prv_cache.epsilon(**ASKED) == (0.5, None)
    assert json.loads(file.read_text()) == {**ASKED, "epsilon_prv": 0.5}


def test_a_failure_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prv, "epsilon", lambda **_: (None, "prv: no memory"))
    assert prv_cache.epsilon(**ASKED) == (None, "prv: no memory")
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_is_done_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("no folder")
    monkeypatch.setattr(prv, "epsilon", lambda **_: (0.5, None))
    assert prv_cache.epsilon(**ASKED) == (0.5, None)
