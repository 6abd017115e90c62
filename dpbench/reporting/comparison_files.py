"""The files of a comparison: documents and the figure."""

import io
from pathlib import Path

from dpbench.analysis.comparison.stores import Comparison
from dpbench.errors import BadInput
from dpbench.reporting import figures
from dpbench.store import files


def write_document(path: Path, content: bytes) -> None:
    """Writes the file in one step, or writes into a pipe or device that is there.

    Raises:
        BadInput: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            with path.open("wb") as file:  # /dev/stdout must not be replaced by a file
                file.write(content)
        else:
            files.write_bytes(path, content)
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error


def write_figure(found: Comparison, out: Path, tolerance: float) -> list[Path]:
    """Writes the figure of the differences as SVG and PNG into the folder; returns the paths.

    Raises:
        BadInput: They cannot be written.
    """
    figure = figures.differences(found.accuracy, found.overhead, found.epsilon, tolerance)
    paths = [out / f"differences{suffix}" for suffix in (".svg", ".png")]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in paths:
            drawn = io.BytesIO()
            date = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(drawn, format=path.suffix[1:], metadata=date)
            files.write_bytes(path, drawn.getvalue())
    except OSError as error:
        raise BadInput(f"Cannot write the figure to {out}: {error.strerror}.") from error
    return paths
