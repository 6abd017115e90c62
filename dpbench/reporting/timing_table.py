"""Timings as a table for a terminal."""

import math

import pandas as pd

from dpbench import console, engines, strings
from dpbench.analysis import step_overhead
from dpbench.reporting import quantities, timing_caveats
from dpbench.trial import NON_PRIVATE, TUTORIAL_ARMS

_ORDER = (*engines.names(), *TUTORIAL_ARMS)
_HEADER = ("engine", "ratio", "interval", "examples/s", "spread", "memory", "pairs")


def as_text(frame: pd.DataFrame) -> str:
    """The table of timings for a terminal, and sentences on what it cannot say.

    Args:
        frame: Rows of `store.read_timings`, of one machine, dataset and model.
    """
    where = frame.iloc[0]
    summary = step_overhead.overhead(frame).sort_values(
        ["device", "batch_size", "engine"],
        key=lambda column: column.map(_ORDER.index) if column.name == "engine" else column,
    )
    lines = [
        f"{where['model']} on {where['dataset']}, {where['device_name']}, "
        f"{where['threads']} thread(s), torch {where['torch_version']}, "
        f"opacus {where['opacus_version']}",
        f"time of a step over the {NON_PRIVATE} step's:",
    ]
    for (device, batch_size), rows in summary.groupby(["device", "batch_size"], sort=False):
        table = strings.table(_HEADER, map(_cells, rows.to_dict("records")), console.columns())
        lines += [f"on {device}, batch size {batch_size}:", *table.split("\n")]
    if NON_PRIVATE in set(summary["engine"]):
        lines.append(f"{NON_PRIVATE} against itself is the noise floor.")
    lines += map(str, timing_caveats.of_one_process(summary))
    shipped = summary[summary["engine"].isin(TUTORIAL_ARMS)].pivot(
        index=["batch_size", "device"], columns="engine", values="overhead_ratio"
    )
    if set(TUTORIAL_ARMS) <= set(shipped.columns):
        times = shipped["opacus-as-shipped"] / shipped["tutorial-non-private"]
        for (batch_size, _), ratio in times.items():
            lines.append(
                f"opacus-as-shipped takes {ratio:.2f} times as long as tutorial-non-private at "
                f"batch size {batch_size}."
            )
    return "\n".join(lines)


def _cells(row: "dict[str, float]") -> list[str]:
    memory = row["peak_memory_bytes"]
    ratio, low, high = quantities.ratio(
        row["overhead_ratio"], row["overhead_ratio_low"], row["overhead_ratio_high"]
    )
    return [
        str(row["engine"]),
        ratio,
        f"[{low}, {high}]",
        f"{row['examples_per_second']:,.0f}",
        f"{100 * row['spread']:.0f} %",
        "-" if math.isnan(memory) else _mebibytes(memory),
        f"{row['pairs']}/{row['processes']}{'' if row['alone'] else '*'}",
    ]


def _mebibytes(size: float) -> str:
    least = 0.1 * 2**20
    return f"{size / 2**20:,.1f} MiB" if size >= least else "< 0.1 MiB"
