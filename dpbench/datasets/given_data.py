"""A `Data` value that Python code has made -> a file that workers load, named like any other."""

from pathlib import Path

from dpbench.datasets import user_data, user_tensors
from dpbench.datasets.data import Data
from dpbench.errors import BadInput

FOLDER, NAME = "given", "given.py:load"  # beneath the data root

_SOURCE = '''"""Examples that were given to dpbench.run_sweep as a value."""

from pathlib import Path

import torch

import dpbench


def load(root):
    parts = torch.load(Path(__file__).with_name("examples.pt"))
    return dpbench.Data(**parts)
'''


def written(data: Data, data_root: Path) -> str:
    """The reference of a function that returns the data, in a folder named by their hash.

    Args:
        data: Tensors, arrays or map-style Datasets.
        data_root: Where the folder is made.

    Raises:
        BadInput: The data are not usable, or prepare their batches: a function does not travel.
    """
    import torch

    if data.prepare is not None:
        raise BadInput(
            "Expected Data without prepare, since workers cannot import it from a value: give a "
            "function that returns the Data, of a file, in its place."
        )
    checked = user_tensors.checked(data, "the Data that is given")
    folder = data_root / FOLDER / user_data.data_hash(checked, "")
    path = folder / "examples.pt"
    parts = {part: each for part in user_data.PARTS if (each := getattr(checked, part)) is not None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            torch.save(parts, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        (folder / "given.py").write_text(_SOURCE, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"Cannot write {folder}: {error.strerror}.") from error
    return f"{folder.absolute()}/{NAME}"
