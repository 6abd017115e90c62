"""Figures as files: SVG, PNG, and their numbers as CSV; the same frame gives the same bytes."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from dpbench.errors import BadInput
from dpbench.reporting.figure_specs import Drawn
from dpbench.store import files

SUFFIXES = (".svg", ".png", ".csv")
_SVG_SALT = "dpbench"
_CSS_PIXELS = 96  # an inch


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure as an image.

    Attributes:
        drawn: Its text.
        svg: None where there is nothing to draw.
        csv: Its numbers.
        width: CSS pixels.
        height: CSS pixels.
    """

    drawn: Drawn
    svg: bytes | None
    csv: str
    width: int
    height: int


def write(root: Path, drawn: Drawn) -> Picture:
    """Writes the figure's files; removes those of an earlier report where nothing is drawn.

    Raises:
        BadInput: The folder cannot be written to.
    """
    if drawn.figure is None:
        for suffix in SUFFIXES:
            (root / f"{drawn.name}{suffix}").unlink(missing_ok=True)
        return Picture(drawn=drawn, svg=None, csv="", width=0, height=0)
    drawn.figure.draw_without_rendering()
    drawn.figure.set_layout_engine("none")  # it is laid out, and once is enough
    svg, png = _image(drawn.figure, "svg"), _image(drawn.figure, "png")
    csv = drawn.numbers.to_csv(index=False)
    for suffix, content in zip(SUFFIXES, (svg, png, csv), strict=True):
        write_file(root / f"{drawn.name}{suffix}", content)
    width, height = (round(_CSS_PIXELS * inches) for inches in drawn.figure.get_size_inches())
    return Picture(drawn=drawn, svg=svg, csv=csv, width=width, height=height)


def _image(figure: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    with (
        mpl.rc_context({"svg.hashsalt": _SVG_SALT, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands in its place
        figure.savefig(
            content, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None}
        )
    return content.getvalue()


def write_file(path: Path, content: str | bytes) -> None:
    """Writes the file whole or not at all.

    Raises:
        BadInput: It cannot be written.
    """
    if isinstance(content, str):  # with names of files that may not be UTF-8
        content = content.encode("utf-8", "backslashreplace")
    try:
        files.write_bytes(path, content)
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error
