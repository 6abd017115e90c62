"""Test accuracy against epsilon: each model's best settings, and where published results lie."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpbench.analysis import arm_means, choice, frontier, trial_rows
from dpbench.analysis.choice import Chosen
from dpbench.reporting import figure_caveats, published, quantities
from dpbench.reporting.figure_specs import FigureSpec, TrialFrames
from dpbench.reporting.figures import marks, parts, published_points

_LEAST_MODELS, _MOST_MODELS = 2, parts.MOST_LINES
_TICK_GAP = 0.07  # of the axis, which is wider than those of several panels


def numbers(frames: TrialFrames) -> pd.DataFrame:
    """A row a point.

    Columns: those of `arm_means.over_seeds`; `kind`; and `label`, the model or the published
    result. Kinds: `confirmed`, the best setting of a model within an epsilon that is answered for,
    on seeds that had no part in the choice; `chosen`, the same on the seeds that chose; `passed`,
    where no setting of the model was confirmed, every epoch that is the best so far; `non-private`;
    and `published`, at the epsilon of today's accountant.
    """
    private = _one_sampling(parts.on_log_axis(frames.trials))
    models = _drawn_models(private)
    if len(models) < _LEAST_MODELS:
        return arm_means.over_seeds(private.iloc[:0])
    found = [point for model in models for point in _of_model(frames, private, model)]
    (delta,) = private["delta"].unique()
    shown = published.results()
    shown = [each for each in shown if each.dataset == private["dataset"].iloc[0]]
    found += [published_points.row(each) for each in shown if each.epsilon and each.delta == delta]
    return pd.DataFrame(found)


def _one_sampling(private: pd.DataFrame) -> pd.DataFrame:
    """The rows of Poisson batches or, without these, of shuffled ones: their epsilons differ."""
    return private[private["sampling"].isin(trial_rows.samplings(private)[:1])]


def _drawn_models(private: pd.DataFrame) -> list[str]:
    """At most so many as can be told apart, the best."""
    best = (
        private.groupby("model")["test_accuracy"].max().sort_values(ascending=False, kind="stable")
    )
    return sorted(str(name) for name in best.index[:_MOST_MODELS])


def _of_model(frames: TrialFrames, private: pd.DataFrame, model: str) -> Iterator[dict[str, Any]]:
    """The points of the model's frontier, and its best result without privacy."""
    rows = private[private["model"] == model]
    curves = arm_means.over_seeds(rows)
    answered: dict[Any, dict[str, Any]] = {}
    for epsilon in sorted(frames.epsilons):
        arms = frontier.last_within(curves, epsilon)
        if len(arms):
            best = frontier.best(arms)
            chosen = Chosen(arm=best, rows=choice.rows_of(rows, best), arms=arms)
            answered[best.name] = _point(frames, chosen, "chosen")
    if not any(point["kind"] == "confirmed" for point in answered.values()):
        scored = "validation_score" if curves["validation_score"].notna().all() else "test_score"
        passed = frontier.frontier(curves.assign(test_accuracy=curves[scored])).index
        for name in passed.difference(list(answered)):
            answered[name] = {**curves.loc[name], "label": model, "kind": "passed"}
    yield from answered.values()
    without = choice.baseline(frames.trials[frames.trials["model"] == model])
    if without is not None:
        yield _point(frames, without, "non-private") | {"kind": "non-private"}


def _point(frames: TrialFrames, chosen: Chosen, kind: str) -> dict[str, Any]:
    """The chosen arm, on the seeds that confirm it where there are any."""
    _, shown, fresh = choice.confirmed(frames.confirmations, chosen)
    return {**shown, "label": shown["model"], "kind": "confirmed" if fresh else kind}


def draw(frames: TrialFrames, points: pd.DataFrame) -> Figure:
    """One panel: a line for each model, dashed its best without privacy, stars what is published.

    A marker is filled where its accuracy is of seeds that had no part in the choice.
    """
    models = sorted(points[points["kind"] != "published"]["model"].unique())
    styles = {
        model: {"color": parts.COLOURS[index], "marker": parts.MARKERS[index]}
        for index, model in enumerate(models)
    }
    private = points[points["kind"] != "non-private"]
    with parts.style():
        figure, (panel,) = parts.panels(1, width=2.5, height=1.55)
        for model in models:
            _draw_model(panel, points, model, styles[model])
        published_points.draw(panel, points[points["kind"] == "published"], styles)
        epsilons = private["epsilon"]
        parts.epsilon_axis(
            panel, private, epsilons.min(), epsilons.max(), frames.epsilons, gap=_TICK_GAP
        )
        panel.set_ylabel(f"test accuracy on {parts.names(frames.trials['dataset'])} (%)")
        parts.percent_axis([panel], [points[points["kind"] != "passed"]["test_accuracy"]], "point")
        parts.legend(figure, _handles(points, styles))
        figure.draw_without_rendering()  # or the panel has not yet its place
        named = points[points["kind"] == "published"]
        published_points.name(panel, named, [_line(points, model) for model in models])
    return figure


def _line(points: pd.DataFrame, model: str) -> pd.DataFrame:
    """The model's private points, by rising epsilon."""
    here = points[(points["label"] == model) & (points["kind"] != "non-private")]
    return here.sort_values("epsilon", kind="stable")


def _draw_model(panel: Axes, points: pd.DataFrame, model: str, style: dict[str, Any]) -> None:
    line = _line(points, model)
    panel.plot(
        line["epsilon"], 100 * line["test_accuracy"], color=style["color"], linewidth=1.6, zorder=2
    )
    marked = line[line["kind"] != "passed"]
    marks.draw_bars(panel, marked, style["color"])
    for kind, face in (("confirmed", style["color"]), ("chosen", "white")):
        some = marked[marked["kind"] == kind]
        panel.plot(
            some["epsilon"],
            100 * some["test_accuracy"],
            linestyle="",
            markersize=7.5,
            markeredgewidth=1.2,
            markeredgecolor="white" if kind == "confirmed" else style["color"],
            markerfacecolor=face,
            zorder=4,
            **style,
        )
    without = points[(points["label"] == model) & (points["kind"] == "non-private")]
    for accuracy in without["test_accuracy"]:
        panel.axhline(100 * accuracy, color=style["color"], linestyle="--", linewidth=1, zorder=1)


def _handles(points: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> Sequence[Line2D]:
    """The models, each with its best result without privacy, and what hollow marks are."""
    kinds = set(points["kind"])
    handles = []
    for model, style in styles.items():
        here = points[(points["label"] == model) & (points["kind"] == "non-private")]
        handles.append(Line2D([], [], label=parts.printable(model), **style))
        handles += [
            Line2D([], [], color=style["color"], linestyle="--", label=f"not private {value:.2f} %")
            for value in 100 * here["test_accuracy"]
        ]
    plain: dict[str, Any] = {"color": "0.3", "linestyle": ""}
    if "chosen" in kinds:
        handles.append(
            Line2D([], [], marker="o", mfc="white", label="on the seeds that chose", **plain)
        )
    if "published" in kinds:
        label = "published: epsilon of\nits noise and steps, as if\nits batches were Poisson"
        handles.append(Line2D([], [], label=label, **plain, **published_points.STAR))
    return handles


def alternative(frames: TrialFrames, points: pd.DataFrame) -> str:
    """What each model reaches within each epsilon, and what is published."""
    texts = []
    for model in sorted(points[points["kind"] != "published"]["model"].unique()):
        here = points[points["label"] == model]
        here = here[here["kind"].isin(["confirmed", "chosen"])].sort_values(
            "epsilon", kind="stable"
        )
        reached = ", ".join(map(_reached, here["test_accuracy"], here["epsilon"]))
        texts.append(f"{model} reaches {reached}." if reached else f"{model} reaches none of them.")
    shown = points[points["kind"] == "published"]
    if len(shown):
        named = [
            f"{name} {_reached(accuracy, epsilon)}"
            for name, accuracy, epsilon in zip(
                shown["label"], shown["test_accuracy"], shown["epsilon"], strict=True
            )
        ]
        texts.append(f"Published: {', '.join(named)}.")
    return f"Test accuracy against epsilon, on a log axis, a line for each model. {' '.join(texts)}"


def _reached(accuracy: float, epsilon: float) -> str:
    return f"{100 * accuracy:.2f} % at epsilon {quantities.short(epsilon)}"


def notes(frames: TrialFrames, points: pd.DataFrame) -> Iterator[str]:
    """Chance, what is not drawn, and what published epsilons do not say."""
    if (points["kind"] == "chosen").any():
        yield (
            "A hollow marker's accuracy is of the seeds that chose the setting, and may flatter "
            "(--confirm 5 runs each answer again on fresh ones)."
        )
    private = parts.on_log_axis(frames.trials)
    count, drawn = private["model"].nunique(), len(_drawn_models(_one_sampling(private)))
    if drawn < count:
        yield f"{drawn} models of {count} are drawn: the best."
    if len(trial_rows.samplings(private)) > 1:
        yield "Only Poisson batches are drawn; those of shuffled ones are in the figures below."
    if (points["kind"] == "published").any():
        sources = sorted({each.source for each in published.results()})
        yield (
            "Published results stand at the epsilon that their noise, sample rate and steps spend "
            "by PLD, not at the one that their source states, which an older conversion gave. They "
            "drew shuffled batches, for which neither holds (Chua et al. 2024). Sources: "
            f"{', '.join(sources)}."
        )
    yield from figure_caveats.of_search(frames.trials)


SPEC = FigureSpec(
    order=5,
    frames=TrialFrames,
    title="The frontier of each model",
    caption="A line is a model, a marker its best setting within an epsilon that is answered for, "
    "at the epsilon that it has spent; up and to the left is better. Bars are 95 % t intervals of "
    "the mean over seeds, dashed lines the best result of each model without privacy. Where no "
    "setting of a model was run again on fresh seeds, its line also passes through the best of "
    "every other epsilon.",
    missing="Nothing to draw: it needs private trials of several models.",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=notes,
)
