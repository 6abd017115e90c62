"""python -m dpbench.report: a store -> one HTML page, and its figures with their numbers."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import command
from dpbench.trial import BadInput

if TYPE_CHECKING:
    import pandas as pd

    from dpbench.gallery import Drawn
    from dpbench.page import Picture
    from dpbench.summary import Answer, Baseline

JSON_VERSION = 1
_SVG_SALT = "dpbench"  # so that the same frame is the same bytes
_CSS_PIXELS = 96  # an inch


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A report that was written, and what it answers.

    Attributes:
        page: Its path.
        facts: What was run, in a line.
        warnings: What is missing from the answer or stands for something else.
        dataset: That the answers are of; None where no trial has run.
        delta: Of their epsilons; None where no private trial has run.
        baseline: What losses are counted from.
        answers: One for each of `summary.BEST_AT`.
        finished: Trials.
        failed: Trials.
    """

    page: Path
    facts: str
    warnings: Sequence[str]
    dataset: str | None
    delta: float | None
    baseline: "Baseline | None"
    answers: "Sequence[Answer]"
    finished: int
    failed: int


def write(root: Path) -> Written | None:
    """Writes the store's page, and its figures as SVG, PNG and CSV beside it.

    None, and no file, where the store holds neither a trial nor a timing.

    Raises:
        BadInput: The store cannot be read, or its folder cannot be written to.
    """
    from dpbench import accounting, analysis, candour, gallery, page, store, summary
    from dpbench.store import history

    trials, timings = store.read_trials(root), store.read_timings(root)
    if trials.empty and timings.empty:
        return None
    trials = accounting.by_one_accountant(trials)
    sweeps = history.read(root)
    main = analysis.comparable(trials)
    dataset = analysis.of_most(timings if main.empty else main, "dataset")["dataset"].iloc[0]
    timed = analysis.timed_alike(timings[timings["dataset"] == dataset])
    answers = summary.answers(main, analysis.of_most(timed, "device"))
    drawn = gallery.figures_of(main, timed, answers)
    contents = page.Contents(
        name=root.resolve().name,
        facts=_facts(trials, main),
        warnings=[
            *candour.of_progress(trials, {each for sweep in sweeps for each in sweep.trial_ids}),
            *candour.of_left_out(trials, main),
            *candour.of_other_timings(timings, dataset),
            *candour.of_other_conditions(timings[timings["dataset"] == dataset], timed),
            *candour.of_dataset(main),
        ],
        baseline=summary.baseline(main),
        answers=answers,
        pictures=[_picture(root, each) for each in drawn],
        tables=(
            page.arms_table(trials),
            page.failures_table(trials),
            page.provenance_table(trials, timings),
        ),
        sweeps=sweeps,
        shuffled=bool((trials["sampling"] == "shuffle").any()),
    )
    path = root / "report.html"
    _write(path, page.render(contents))
    return Written(
        page=path,
        facts=contents.facts,
        warnings=contents.warnings,
        dataset=None if main.empty else str(dataset),
        delta=main["delta"].max() if main["delta"].notna().any() else None,
        baseline=contents.baseline,
        answers=answers,
        finished=analysis.final(trials)["trial_id"].nunique(),
        failed=analysis.failures(trials)["trial_id"].nunique(),
    )


def _facts(trials: "pd.DataFrame", main: "pd.DataFrame") -> str:
    """What was run, in a line: on the dataset of the answers, and at their delta."""
    from dpbench import analysis, wording

    if trials.empty:
        return "Timings only: no trial was trained."
    rows = trials[trials["dataset"].isin(main["dataset"])]
    finished = command.counted(analysis.final(rows)["trial_id"].nunique(), "trial")
    parts = [f"{finished} finished on {rows['dataset'].iloc[0]}"]
    named = [name for key, name in wording.ACCOUNTANTS.items() if key in set(main["accountant"])]
    if named:
        delta = analysis.short(main["delta"].max())
        parts.append(f"epsilon at delta {delta}, by {' or '.join(named)}")
    sizes = [str(size) for size in sorted(rows["batch_size"].unique())]
    parts += [
        f"model {', '.join(sorted(rows['model'].unique()))}",
        f"batch size{'s' if len(sizes) > 1 else ''} {', '.join(sizes)}",
        command.counted(rows["seed"].nunique(), "seed"),
    ]
    if rows["started_at"].notna().any():
        parts.append(f"{rows['started_at'].min():%Y-%m-%d}")
    return f"{'; '.join(parts)}."


def _picture(root: Path, drawn: "Drawn") -> "Picture":
    """The figure as an image, its files written."""
    from dpbench.page import Picture

    if drawn.figure is None:
        for suffix in (".svg", ".png", ".csv"):  # of an earlier report
            (root / f"{drawn.name}{suffix}").unlink(missing_ok=True)
        return Picture(drawn=drawn, svg=None, csv="", width=0, height=0)
    drawn.figure.draw_without_rendering()
    drawn.figure.set_layout_engine("none")  # it is laid out, and once is enough
    svg = _image(drawn, "svg")
    csv = drawn.numbers.to_csv(index=False)
    _write(root / f"{drawn.name}.svg", svg)
    _write(root / f"{drawn.name}.png", _image(drawn, "png"))
    _write(root / f"{drawn.name}.csv", csv)
    width, height = (round(_CSS_PIXELS * inches) for inches in drawn.figure.get_size_inches())
    return Picture(drawn=drawn, svg=svg, csv=csv, width=width, height=height)


def _image(drawn: "Drawn", kind: str) -> bytes:
    """The figure's bytes, the same each time."""
    import warnings

    import matplotlib as mpl

    assert drawn.figure is not None
    content = io.BytesIO()
    with (
        mpl.rc_context({"svg.hashsalt": _SVG_SALT, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands in its place
        drawn.figure.savefig(
            content, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None}
        )
    return content.getvalue()


def _write(path: Path, content: str | bytes) -> None:
    from dpbench.store import files

    if isinstance(content, str):  # with names of files that may not be UTF-8
        content = content.encode("utf-8", "backslashreplace")
    try:
        files.write_bytes(path, content)
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error


def answer(written: Written, *, as_json: bool) -> str:
    """The answer for a terminal or, as JSON with all its digits, for a script."""
    from dpbench import wording

    if as_json:
        return command.one_object(
            schema_version=JSON_VERSION, **asdict(written) | {"page": str(written.page)}
        )
    head, _, rest = wording.table(written.answers).partition("\n")
    return "\n".join(
        [
            *map(
                command.printable,
                (written.facts, *written.warnings, wording.baseline(written.baseline)),
            ),
            command.bold(head),
            rest,
            f"page: {written.page}",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return command.run(_parser(), arguments, _report)


def _parser() -> command.Parser:
    parser = command.Parser(
        "python -m dpbench.report", __doc__, "0 all well; 2 bad input; 4 nothing to report on"
    )
    parser.add_argument("store", type=Path, metavar="results/NAME", help="a sweep's folder")
    command.add_output_flags(parser)
    return parser


def _report(given: argparse.Namespace) -> int:
    root = given.store
    if not os.path.isdir(root):  # noqa: PTH112  # pathlib's raises where a name is too long
        raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    written = write(root)
    if written is None:
        print(f"{root} holds no trial and no timing yet.", file=sys.stderr)
        return command.EXIT_NOTHING
    if not given.quiet:
        print(answer(written, as_json=given.json))
    return 0


if __name__ == "__main__":
    sys.exit(main())
