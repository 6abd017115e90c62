"""What a private step costs in memory."""

import pandas as pd
from matplotlib.figure import Figure

from dpbench.reporting.figure_specs import FigureSpec, TimingFrames
from dpbench.reporting.figures import engine_lines, parts
from dpbench.trial import NON_PRIVATE


def numbers(frames: TimingFrames) -> pd.DataFrame:
    """The rows of `step_overhead.overhead`; none where no engine's memory is known."""
    summary = engine_lines.overheads(frames.timings)
    return summary if frames.timings["peak_memory_bytes"].notna().any() else summary.iloc[:0]


def draw(frames: TimingFrames, summary: pd.DataFrame) -> Figure:
    """Peak memory of a step against batch size, a line an engine, the non-private step's grey."""
    timings = frames.timings
    summary = summary[summary["peak_memory_bytes"].notna()]
    position = engine_lines.positions(summary)
    groups = engine_lines.groups(summary) or {NON_PRIVATE: []}
    known = set(summary["engine"])
    with parts.style():
        figure, panels = parts.panels(len(groups), width=1.35)
        for panel, (title, engines) in zip(panels, groups.items(), strict=True):
            panel.set_title(title)
            for engine in (name for name in (*engines, NON_PRIVATE) if name in known):
                here = summary[summary["engine"] == engine]
                x = [position[batch_size] for batch_size in here["batch_size"]]
                # what is next to nothing stands on the axis, and is not cut by it
                panel.plot(
                    x,
                    here["peak_memory_bytes"] / 2**20,
                    clip_on=False,
                    zorder=3,
                    **engine_lines.STYLES[engine],
                )
            engine_lines.axes(panel, position)
            panel.set_xlabel("batch size")
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("memory of a step (MiB)")
        engine_lines.name_where(figure, timings)
        parts.name_lines(figure, panels)
    return figure


def alternative(frames: TimingFrames, summary: pd.DataFrame) -> str:
    """The most memory of each engine."""
    known = summary.dropna(subset="peak_memory_bytes")
    most = known.groupby("engine", sort=False)["peak_memory_bytes"].max() / 2**20
    listed = ", ".join(f"{name} {mebibytes:.0f}" for name, mebibytes in most.items())
    return f"Most memory of a step in MiB, over batch sizes: {listed}."


SPEC = FigureSpec(
    order=20,
    frames=TimingFrames,
    title="What a step costs in memory",
    caption="How far steps raise the memory of a process on a CPU, or what is allocated on a GPU.",
    missing="Nothing to draw: the memory of a step was not measured.",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=lambda frames, summary: (),
)
