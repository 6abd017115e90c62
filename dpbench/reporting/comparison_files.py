"""The files of a comparison: documents and figures."""

from pathlib import Path

from dpbench.analysis.comparison.stores import Comparison
from dpbench.errors import BadInput
from dpbench.reporting import figure_files, figure_specs
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


def write_figures(found: Comparison, out: Path, tolerance: float) -> list[Path]:
    """Writes the figures as SVG, PNG and CSV into the folder; returns the paths.

    Raises:
        BadInput: They cannot be written.
    """
    frames = figure_specs.ComparisonFrames(
        accuracy=found.accuracy,
        overhead=found.overhead,
        epsilon=found.epsilon,
        tolerance=tolerance,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"Cannot write the figure to {out}: {error.strerror}.") from error
    drawn = figure_specs.drawn(frames)
    for each in drawn:
        figure_files.write(out, each)
    suffixes = figure_files.SUFFIXES
    return [out / f"{each.name}{suffix}" for each in drawn for suffix in suffixes]
