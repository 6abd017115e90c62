from pathlib import Path

import pytest

from dpbench.datasets import catalogue
from dpbench.errors import BadInput


def test_steps_and_sample_rate_are_what_was_asked() -> None:
    # Opacus' own loader makes 235 batches of rate 1/235 of this; here it stays 256 of 60,000.
    assert catalogue.steps_per_epoch("mnist", 256) == 234
    assert catalogue.sample_rate("mnist", 256) == 256 / 60_000


def test_a_batch_larger_than_the_dataset_is_named() -> None:
    with pytest.raises(BadInput, match="batch_size=2000 <= 1,437"):
        catalogue.steps_per_epoch("digits", 2000)


def test_an_unknown_dataset_is_named() -> None:
    with pytest.raises(BadInput, match="dataset='cifar' to be one of mnist"):
        catalogue.entry("cifar")


def test_files_are_found_packed_or_unpacked(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    names = [f"{part}-idx3-ubyte" for part in ("train-images", "t10k-images")]
    names += [f"{part}-idx1-ubyte" for part in ("train-labels", "t10k-labels")]
    for name in names[:3]:
        (raw / f"{name}.gz").touch()
    assert not catalogue.present("mnist", tmp_path)
    (raw / names[3]).touch()
    assert catalogue.present("mnist", tmp_path)
    assert catalogue.present("digits", tmp_path / "nowhere")
