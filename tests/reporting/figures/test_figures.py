"""The drawn artists hold the frame's numbers."""

import io
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import artists
import numpy as np
import pandas as pd
import pytest
from artists import lines
from factories import frame, make_trial
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dpbench.reporting import figure_caveats, figure_specs
from dpbench.reporting.figure_specs import TrialFrames
from dpbench.reporting.figures import parts
from dpbench.trial import Trial


def draw(name: str, trials: pd.DataFrame, at: Sequence[float] = ()) -> Figure:
    return artists.draw(name, artists.of_trials(trials, at))


def numbers_of(name: str, trials: pd.DataFrame, at: Sequence[float] = ()) -> pd.DataFrame:
    return artists.numbers(name, artists.of_trials(trials, at))


def privacy_frame(seeds: int = 1) -> pd.DataFrame:
    measured: list[tuple[Trial, int, float, float | None]] = []
    for seed in range(seeds):
        for batch_size in (64, 128):
            baseline = make_trial("non-private", batch_size=batch_size, seed=seed, epochs=2)
            measured += [(baseline, 1, 0.90, None), (baseline, 2, 0.95 + 0.01 * seed, None)]
            for noise, epsilon in ((1.0, 4.0), (2.0, 1.0), (0.0, float("inf"))):
                trial = make_trial(
                    noise_multiplier=noise, batch_size=batch_size, seed=seed, epochs=2
                )
                accuracy = 0.8 - 0.1 * noise + 0.02 * seed
                measured += [(trial, 1, accuracy, epsilon / 2), (trial, 2, accuracy, epsilon)]
    return frame(*measured)


def markers(panel: Axes) -> list[Any]:
    """(epsilon, percent) of every arm's marker."""
    return [
        (float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0]))
        for line in panel.get_lines()
        if str(line.get_marker()) in parts.MARKERS and line.get_markersize() == 7.5
    ]


def boxes(texts: Sequence[Any]) -> list[Bbox]:
    """Where the texts that say something stand."""
    return [text.get_window_extent() for text in texts if text.get_text()]


def overlaps(texts: Sequence[Any]) -> bool:
    """Whether any two of the texts lie over one another."""
    return any(one.overlaps(other) for one, other in combinations(boxes(texts), 2))


def test_privacy_accuracy_marks_the_end_of_every_arm_and_no_infinite_epsilon() -> None:
    figure = draw("privacy_accuracy", privacy_frame())
    assert [panel.get_title() for panel in figure.axes] == ["batch size 64", "batch size 128"]
    for panel in figure.axes:
        assert sorted(markers(panel)) == [
            (1.0, pytest.approx(60.0)),
            (4.0, pytest.approx(70.0)),
        ]
        # the frontier, over all epochs, as far as any arm has spent
        assert ([0.5, 2.0, 4.0], pytest.approx([60.0, 70.0, 70.0])) in lines(panel)
        assert {"1", "2"} < {text.get_text() for text in panel.texts}  # noise multipliers
        assert panel.get_xscale() == "log"
        assert panel.get_xlabel() == "epsilon spent (delta 1e-5)\nby PLD"
        low, high = panel.get_xlim()
        assert low < 0.5
        assert high > 4.0


def wide_frame() -> pd.DataFrame:
    """Target epsilons over many batch sizes and clips, shuffled batches too, 3 seeds."""
    measured: list[tuple[Trial, int, float, float | None]] = []
    for batch_size, clip, seed in product((64, 256, 1024), (0.1, 0.2, 0.5, 1.0, 2.0), range(3)):
        for epsilon in (1.0, 3.0, 8.0):
            noise = 0.776367 + batch_size / 100 / epsilon
            for sampling, spent in (("poisson", epsilon), ("shuffle", 20 * epsilon)):
                trial = make_trial(
                    noise_multiplier=noise,
                    max_grad_norm=clip,
                    batch_size=batch_size,
                    seed=seed,
                    sampling=sampling,
                )
                measured.append((trial, 1, 0.01 + 0.3 * seed + clip / 10, spent))
        clip_only = make_trial(
            noise_multiplier=0.0, max_grad_norm=clip, batch_size=batch_size, seed=seed
        )
        measured.append((clip_only, 1, 0.5 + clip / 10, float("inf")))
        baseline = make_trial("non-private", batch_size=batch_size, seed=seed)
        measured.append((baseline, 1, 0.98 + seed / 100, None))
    rows = frame(*measured).drop_duplicates("trial_id")
    poisson_epsilon = rows["epsilon"].where(rows["sampling"] == "shuffle") / 20
    return rows.assign(epsilon_if_poisson=poisson_epsilon, steps=22)


def test_every_marker_stands_at_its_epsilon_and_inside_its_panel() -> None:
    trials = wide_frame()
    figure = draw("privacy_accuracy", trials)
    figure.draw_without_rendering()
    numbers = numbers_of("privacy_accuracy", trials)
    for panel, (_, here) in zip(figure.axes, numbers.groupby("batch_size"), strict=True):
        ends = here[here["end"]]
        assert sorted(x for x, _ in markers(panel)) == sorted(ends["epsilon"])
        for line in panel.get_lines():
            if len(np.asarray(line.get_xdata())) == 1:
                assert line.get_transform() == panel.transData  # not moved aside
                point = panel.transData.transform(
                    np.asarray([line.get_data()], dtype=float)[:, :, 0]
                )
                inner = panel.get_window_extent().padded(-line.get_markersize() / 2)
                assert inner.contains(*point[0])
    assert len({panel.get_xlim() for panel in figure.axes}) == 1
    low, high = figure.axes[0].get_ylim()
    assert low > -5
    assert high < 110


@pytest.mark.parametrize("name", figure_specs.specs(TrialFrames))
def test_no_tick_label_lies_over_another(name: str) -> None:
    rows = wide_frame()
    if name == "model_frontiers":
        rows = pd.concat([rows, rows.assign(model="mlp")])
    figure = draw(name, rows)
    figure.draw_without_rendering()
    for panel in figure.axes:
        assert not overlaps(panel.get_xticklabels())
        assert not overlaps(panel.get_yticklabels())
    panel = figure.axes[0]
    panel.set_xticks(panel.get_xticks(), ["0.7763671875" * 3] * len(panel.get_xticks()))
    figure.draw_without_rendering()
    assert overlaps(panel.get_xticklabels())  # the test can fail


@pytest.mark.parametrize(
    ("least", "most", "at", "labels"),
    [
        (0.012, 6e6, (1, 3, 8), "0.01 1 100 10,000 1e6"),
        (0.02, 9.0, (1, 3, 8), "0.01 0.03 0.1 0.3 1 3 8"),
        (0.5, 4.0, (1, 3, 8), "0.3 1 3 8"),
        (0.5, 4.0, (2, 4), "0.3 1 2 4 10"),
        (1e-6, 1e-5, (1,), "3e-7 1e-6 3e-6 1e-5 3e-5"),
    ],
)
def test_an_axis_of_epsilon_has_ticks_that_can_be_read(
    least: float, most: float, at: Sequence[float], labels: str
) -> None:
    with parts.style():
        figure, (panel,) = parts.panels(1)
    rows = pd.DataFrame({"accountant": ["pld"], "delta": [1e-5]})
    parts.epsilon_axis(panel, rows, least, most, at)
    figure.draw_without_rendering()
    assert not overlaps(panel.get_xticklabels())
    assert [text.get_text() for text in panel.get_xticklabels()] == labels.split()


def test_the_axis_of_accuracy_is_on_what_decides_and_the_rest_is_said() -> None:
    def drawn(*accuracies: float) -> tuple[float, str]:
        rows = frame(
            *(
                (make_trial(noise_multiplier=1.0 + index), 1, accuracy, 4.0 - index / 2)
                for index, accuracy in enumerate(accuracies)
            )
        )
        (panel,) = draw("privacy_accuracy", rows).axes
        return panel.get_ylim()[0], panel.get_xlabel().split("\n")[-1]

    low, said = drawn(0.97, 0.96, 0.95, 0.94, 0.1)
    assert 80 < low < 94
    assert said == "(below: 1 marker, to 10.0 %)"
    low, said = drawn(0.97, 0.96, 0.12, 0.11, 0.1)  # most are low: they are the result
    assert low < 10
    assert said == "by PLD"


def test_the_lines_of_learning_curves_lie_over_their_bands() -> None:
    for panel in draw("learning_curves", privacy_frame(3)).axes:
        bands = [band.get_zorder() for band in panel.collections]
        curves = [line.get_zorder() for line in panel.get_lines() if line.get_marker() != "None"]
        assert len(bands) == len(curves) == 2
        assert max(bands) < min(curves)


def test_rows_of_cells_say_their_own_panels_noise_and_epsilon() -> None:
    figure = draw("accuracy_cells", wide_frame())
    noises = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert noises == ["0", "0.856 (eps 8)", "0.99 (eps 3)", "1.42 (eps 1)"]
    assert all(len(panel.texts) == 4 * 5 for panel in figure.axes)  # no cell is empty


def test_rings_are_at_the_best_within_each_epsilon() -> None:
    trials = privacy_frame()
    rings = numbers_of("privacy_accuracy", trials).dropna(subset="best_within")
    # within 1 it is the noisier, within 3 the first epoch of the other, and so within 8
    assert sorted(rings["best_within"]) == [1.0, 3.0, 8.0]
    assert dict(zip(rings["best_within"], rings["epsilon"], strict=True))[3.0] == 2.0


def test_learning_curves_draw_every_epoch_a_line_for_each_noise() -> None:
    figure = draw("learning_curves", privacy_frame())
    assert [panel.get_title() for panel in figure.axes] == ["batch size 64", "batch size 128"]
    for panel in figure.axes:
        assert panel.get_xscale() == "log"
        assert ([2.0, 4.0], pytest.approx([70.0, 70.0])) in lines(panel)
        assert ([0.5, 1.0], pytest.approx([60.0, 60.0])) in lines(panel)
        assert [text.get_text() for text in panel.texts] == ["1", "2"]


def test_cells_hold_the_accuracies_as_text() -> None:
    figure = draw("accuracy_cells", privacy_frame())
    for panel in figure.axes:
        assert [text.get_text() for text in panel.texts] == ["80.0", "70.0", "60.0"]


def many_levels() -> pd.DataFrame:
    return frame(
        *(
            (make_trial(noise_multiplier=1 + n / 10, max_grad_norm=clip + 1.0), 1, 0.5, 9.0 - n / 9)
            for n in range(20)
            for clip in range(10)
        )
    )


def test_no_panel_holds_more_than_six_lines() -> None:
    every = many_levels()
    (panel,) = draw("learning_curves", every).axes
    curves = [line for line in panel.get_lines() if line.get_markersize() == 4]
    assert len(curves) == parts.MOST_LINES
    numbers = numbers_of("learning_curves", every)
    assert numbers["noise_multiplier"].nunique() == parts.MOST_LINES
    numbers = numbers_of("privacy_accuracy", every)
    assert {1.0, 2.9} <= set(numbers["noise_multiplier"])  # the first and the last are kept
    assert len(numbers[numbers["end"]]) == 8
    assert len(numbers[numbers["end"]].drop_duplicates("noise_multiplier")) == 8


def test_of_several_learning_rates_the_best_is_drawn() -> None:
    trials = frame(
        (make_trial(learning_rate=0.1), 1, 0.8, 2.0), (make_trial(learning_rate=0.2), 1, 0.9, 2.0)
    )
    assert markers(draw("privacy_accuracy", trials).axes[0]) == [(2.0, pytest.approx(90.0))]
    assert [text.get_text() for text in draw("accuracy_cells", trials).axes[0].texts] == ["90.0"]


def test_a_dollar_sign_and_control_characters_are_drawn_as_text() -> None:
    hostile = privacy_frame().assign(dataset="a$\\frac$\x00b")
    figure = draw("privacy_accuracy", hostile)
    assert "?b" in figure.axes[0].get_ylabel()
    figure.savefig(io.BytesIO(), format="svg")


def test_the_baseline_is_a_labelled_line_and_the_dataset_on_the_axis() -> None:
    figure = draw("privacy_accuracy", privacy_frame())
    panel = figure.axes[0]
    assert "digits" in panel.get_ylabel()
    (label,) = [text for text in panel.texts if "non-private" in text.get_text()]
    assert label.get_text() == "non-private 95.00 %"
    assert ([0.0, 1.0], pytest.approx([95.0, 95.0])) in lines(panel)


def test_with_one_seed_there_is_no_bar_and_with_three_there_are_bars_and_dots() -> None:
    def drawn(seeds: int) -> tuple[int, int]:
        panel = draw("privacy_accuracy", privacy_frame(seeds)).axes[0]
        dots = [line for line in panel.get_lines() if line.get_markersize() == 2.6]
        return len(panel.containers), sum(len(np.asarray(dot.get_xdata())) for dot in dots)

    assert drawn(1) == (0, 0)
    assert drawn(3) == (2, 2 * 3)


def test_a_learning_curve_of_one_seed_has_no_band() -> None:
    assert not draw("learning_curves", privacy_frame(1)).axes[0].collections
    assert len(draw("learning_curves", privacy_frame(3)).axes[0].collections) == 2


def test_shuffled_arms_show_the_gap_to_what_is_quoted_for_them() -> None:
    shuffled = make_trial(sampling="shuffle", epochs=1)
    rows = frame((shuffled, 1, 0.8, 5.0), (make_trial(epochs=1), 1, 0.8, 2.0))
    rows.loc[rows["sampling"] == "shuffle", ["accountant", "epsilon_if_poisson"]] = [
        "gaussian",
        2.0,
    ]
    (panel,) = draw("privacy_accuracy", rows).axes
    gap = [line for line in panel.get_lines() if line.get_linestyle() == ":"]
    assert [list(np.asarray(line.get_xdata())) for line in gap] == [[2.0, 5.0]]
    assert panel.get_xlabel() == "epsilon spent (delta 1e-5)\nby PLD or Gaussian if shuffled"
    # without shuffled batches, neither the line nor its words
    (legend,) = draw("privacy_accuracy", privacy_frame()).legends
    assert "quoted as if Poisson" not in [text.get_text() for text in legend.get_texts()]


def test_what_clipping_loses_and_what_the_noise_loses_on_top_are_drawn_apart() -> None:
    trials = privacy_frame(seeds=3)
    figure = draw("accuracy_loss", trials)
    assert [panel.get_title() for panel in figure.axes] == ["batch size 64", "batch size 128"]
    # baseline 95, 96, 97; clip only 80, 82, 84; noise takes 10 points more for each 1
    numbers = numbers_of("accuracy_loss", trials)
    here = numbers[numbers["batch_size"] == 64].set_index("noise_multiplier")
    assert here[here["part"] == "clipping"]["points_lost"].item() == pytest.approx(14.0)
    assert here.loc[[1.0, 2.0], "points_lost"].tolist() == pytest.approx([10.0, 20.0])
    panel = figure.axes[0]
    drawn = {bars.get_label(): float(bars[0].get_ydata()[0]) for bars in panel.containers}
    assert drawn == {
        "clipping": pytest.approx(14.0),
        "noise 1": pytest.approx(10.0),
        "noise 2": pytest.approx(20.0),
    }
    assert {text.get_text() for text in panel.texts} == set(drawn)
    bars = panel.containers[0][2][0].get_segments()  # t(0.975, 2) s / sqrt(3), s of 15, 14, 13
    assert bars[0][1][1] - bars[0][0][1] == pytest.approx(2 * 4.30265 / 3**0.5)


def test_the_axis_of_losses_is_on_what_decides_and_the_rest_is_said() -> None:
    def drawn(*accuracies: float) -> tuple[float, str]:
        measured: list[tuple[Trial, int, float, float | None]] = [
            (make_trial("non-private", seed=seed), 1, 0.99, None) for seed in range(2)
        ]
        for noise, accuracy in enumerate(accuracies):
            for seed in range(2):
                trial = make_trial(noise_multiplier=float(noise), seed=seed)
                measured.append((trial, 1, accuracy, 3.0 if noise else float("inf")))
        (panel,) = draw("accuracy_loss", frame(*measured)).axes
        return panel.get_ylim()[1], panel.get_xlabel().split("\n")[-1]

    # clipping loses 1 point, the noises 1, 2 and 60
    high, said = drawn(0.98, 0.97, 0.96, 0.38)
    assert 5 < high < 15
    assert said == "(above: 1 marker, to 60.0)"
    high, said = drawn(0.98, 0.38, 0.37, 0.36)  # most are large: they are the result
    assert high > 62
    assert said == "max_grad_norm"


def test_marks_and_rings_are_at_the_epsilons_that_are_answered_for() -> None:
    rows = privacy_frame()
    points = numbers_of("privacy_accuracy", rows, [0.5, 50])
    assert sorted(points["best_within"].dropna()) == [0.5, 50]
    figure = draw("privacy_accuracy", rows, at=[0.5, 50])
    upright = [x for x, y in lines(figure.axes[0]) if len(x) == 2 and y == [0, 1]]
    xs = {x for x, _ in upright}
    assert 0.5 in xs
    assert not {1.0, 3.0, 8.0} & xs
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "best within 0.5 or 50" in labels


def test_each_sampling_has_its_own_frontier_and_rings() -> None:
    poisson = make_trial(), 1, 0.7, 0.9
    shuffled = make_trial(sampling="shuffle"), 1, 0.9, 0.5  # which would hide the other
    points = numbers_of("privacy_accuracy", frame(poisson, shuffled), [1])
    assert points["frontier"].tolist() == [True, True]
    assert points["best_within"].tolist() == [1, 1]
    figure = draw("privacy_accuracy", frame(poisson, shuffled))
    steps = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 2.5]
    assert sorted(str(line.get_linestyle()) for line in steps) == ["-", "--"]


def test_epsilon_0_is_not_drawn_on_a_log_axis() -> None:
    """matplotlib would warn of a non-positive limit, and a warning is an error here."""
    rows = frame(
        (make_trial(), 1, 0.9, 2.0),
        (make_trial(noise_multiplier=9.0), 1, 0.2, 0.0),
    )
    for name in ("privacy_accuracy", "learning_curves"):
        (panel,) = draw(name, rows).axes
        assert panel.get_xlim()[0] > 0
    assert set(numbers_of("privacy_accuracy", rows)["epsilon"]) == {2.0}


def test_no_bar_or_band_leaves_the_scale() -> None:
    """Two seeds far apart have no interval; one that would leave the scale ends there."""
    rows = frame(
        *((make_trial("non-private", seed=i), 1, a, None) for i, a in enumerate((0.2, 0.9))),
        *((make_trial(seed=i), 1, a, 2.0) for i, a in enumerate((0.3, 0.8))),
        *((make_trial(noise_multiplier=2.0, seed=i), 1, a, 1.0) for i, a in enumerate((0.97, 1.0))),
    )
    (panel,) = draw("privacy_accuracy", rows).axes
    bars = [path for bar in panel.containers for path in bar[2][0].get_segments()]
    assert len(bars) == 1
    assert [round(y, 6) for _, y in bars[0]] == [pytest.approx(79.4, abs=0.1), 100]
    assert list(panel.patches) == []


def test_an_epsilon_by_rdp_is_said_to_be_a_bound_like_plds() -> None:
    rows = frame((make_trial(), 1, 0.9, 2.0)).assign(accountant="rdp")
    (said,) = [line for line in figure_caveats.of_search(rows) if "RDP" in line]
    assert "PRV" not in said
    assert "PLD" in said
