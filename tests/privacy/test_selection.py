"""The best of a random number of private runs, against dp_accounting, the paper and simulation."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from factories import ROOT, mostly_slow
from scipy.stats import logser

from dpbench.errors import BadInput
from dpbench.privacy import accountants, accounting, run_count, selection
from dpbench.privacy.run_count import Distribution, RunCount
from dpbench.privacy.selection import Run, epsilon_of_best

SHAPES: dict[Distribution, float] = {"poisson": math.inf, "geometric": 1.0, "logarithmic": 0.0}


def run(noise: float = 1.0, *, steps: int = 2_000) -> Run:
    return Run(noise_multiplier=noise, sample_rate=0.01, steps=steps)


def by_google(noise: float, mean: float, shape: float) -> float:
    """dp_accounting's epsilon, at whole orders."""
    step = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(noise))
    event = RepeatAndSelectDpEvent(dp_accounting.SelfComposedDpEvent(step, 2_000), mean, shape)
    accountant = rdp.RdpAccountant([float(order) for order in range(2, 256)])
    accountant.compose(event)
    return float(accountant.get_epsilon(1e-5))


@pytest.mark.filterwarnings("ignore:Optimal order is the")  # the same for both; the bound holds
@pytest.mark.parametrize("mean", [1, 3, 27.5, 240])
@pytest.mark.parametrize("distribution", SHAPES)
@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_a_search_costs_what_google_says(
    noise: float, distribution: Distribution, mean: float
) -> None:
    theirs = by_google(noise, mean, SHAPES[distribution])
    count = RunCount(distribution=distribution, mean=mean)
    ours = selection.epsilon([run(noise)], count, delta=1e-5)
    # ours also has fractional orders, and so is never much above
    assert theirs * 0.9 <= ours <= theirs + 0.005


@pytest.mark.filterwarnings("ignore:Optimal order is the")
@pytest.mark.parametrize("runs", [1, 27])
def test_the_best_of_a_sweep_costs_the_lower_of_poisson_and_geometric(runs: int) -> None:
    theirs = min(by_google(2.0, runs, shape) for shape in (math.inf, 1.0))
    assert theirs * 0.9 <= epsilon_of_best([run(2.0)] * runs, delta=1e-5) <= theirs + 0.005


def test_a_search_is_charged_for_the_least_private_run() -> None:
    worst = epsilon_of_best([run(1.0)] * 2, delta=1e-5)
    both = epsilon_of_best([run(1.0), run(2.0)], delta=1e-5)
    assert both == worst > epsilon_of_best([run(2.0)] * 2, delta=1e-5)


@pytest.mark.parametrize(("distribution", "eta"), [("geometric", 1), ("logarithmic", 0)])
def test_pure_dp_costs_two_plus_eta_times_epsilon(distribution: Distribution, eta: int) -> None:
    """Papernot and Steinke 2022, corollary 3: an epsilon-DP run gives (2 + eta) epsilon-DP.

    At the largest order, where the divergence of a pure 0.1-DP run is at most 0.1.
    """
    count = RunCount(distribution=distribution, mean=100)
    best = selection.divergences_of_best(np.full(3, 0.1), count, (2.0, 1e4, 1e8))
    assert best[-1] == pytest.approx((2 + eta) * 0.1, abs=1e-5)


@pytest.mark.parametrize(("distribution", "eta"), [("geometric", 1), ("logarithmic", 0)])
@pytest.mark.parametrize("rho", [0.01, 0.1, 0.5])
def test_gaussian_runs_cost_what_corollary_4_says(
    distribution: Distribution, eta: int, rho: float
) -> None:
    """Papernot and Steinke 2022, corollary 4: the best of rho-zCDP runs, in closed form."""
    count = RunCount(distribution=distribution, mean=30)
    log_gamma = -math.log(count.gamma)
    orders = (1.5, 2.0, math.sqrt(log_gamma / rho), 1 + math.sqrt(math.log(30) / rho), 40.0)
    best = selection.divergences_of_best(rho * np.array(orders), count, orders)
    ours = best - 2 * (1 + eta) * math.sqrt(rho * log_gamma) + eta * rho
    order = np.array(orders)
    assert ours == pytest.approx(rho * (order - 1) + math.log(30) / (order - 1), rel=1e-9)


# The run of figure 7 of Papernot and Steinke 2022: its divergences at orders 1.25 to 16, from
# tensorflow/privacy, research/hyperparameters_2022/figure7_default_values.py
FIGURE_7_ORDERS = (1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5, *range(5, 14))
FIGURE_7_RUN = [
    *(0.204459751, 0.245818210, 0.287335988, 0.329014798, 0.370856385, 0.412862542, 0.497375951),
    *(0.582570265, 0.668461534, 0.755066706, 0.842403732, 1.01935100, 1.19947313, 1.38297035),
    *(1.57009549, 1.76124790, 1.95794503, 2.19017390, 4.48407479),
]


@pytest.mark.parametrize(
    ("distribution", "gamma", "x"),
    [
        ("geometric", 0.2, 2.9410673811),
        ("geometric", 0.0035, 5.7258876186),
        ("logarithmic", 0.05, 2.5203083952),
        ("logarithmic", 0.0015, 3.8780019266),
    ],
)
def test_figure_7_is_drawn_again(distribution: Distribution, gamma: float, x: float) -> None:
    """The least divergence over the orders, its x axis, as its script figure7.py computes it.

    Its logarithmic curve has log((1 - gamma) / gamma) where theorem 2 has log(1 / gamma).
    """
    mean = (1 / gamma - 1) / math.log(1 / gamma) if distribution == "logarithmic" else 1 / gamma
    count = RunCount(distribution=distribution, mean=mean)
    assert count.gamma == pytest.approx(gamma, rel=1e-9)
    one = np.array(FIGURE_7_RUN)
    ours = float(selection.divergences_of_best(one, count, FIGURE_7_ORDERS).min())
    looser = 0 if distribution == "geometric" else -math.log1p(-gamma)
    assert x - 1e-8 <= ours <= x + looser + 1e-8


@pytest.mark.parametrize("distribution", SHAPES)
def test_runs_are_drawn_from_their_distribution(distribution: Distribution) -> None:
    count, random = RunCount(distribution=distribution, mean=6.0), np.random.default_rng(0)
    drawn = np.array([run_count.draw(count, random) for _ in range(40_000)])
    none = math.exp(-6.0) if distribution == "poisson" else 0.0
    one = {"poisson": 6 * math.exp(-6.0), "geometric": 1 / 6}.get(
        str(distribution),
        float(logser.pmf(1, 1 - RunCount(distribution="logarithmic", mean=6.0).gamma)),
    )
    assert drawn.mean() == pytest.approx(6.0, abs=5 * drawn.std() / 200)
    assert (drawn == 0).mean() == pytest.approx(none, abs=0.002)
    assert (drawn == 1).mean() == pytest.approx(one, abs=0.012)
    most = run_count.quantile(count, 0.99)
    assert (drawn <= most).mean() >= 0.99 - 0.002
    assert (drawn <= most - 1).mean() < 0.99 + 0.002


@pytest.mark.parametrize("distribution", SHAPES)
def test_the_bound_holds_for_a_search_whose_divergence_is_known(distribution: Distribution) -> None:
    """Randomized response, whose best of K runs is a coin of known bias, by simulation of K."""
    count = RunCount(distribution=distribution, mean=8.0)
    random = np.random.default_rng(1)
    drawn = np.array([run_count.draw(count, random) for _ in range(40_000)])
    good, bad = 0.02, 0.01  # probability that a run scores 1, on either neighbour
    p, q = (float(1 - np.mean((1 - each) ** drawn)) for each in (good, bad))

    orders = np.array(accountants.RDP_ORDERS)
    one = np.maximum(renyi(good, bad, orders), renyi(bad, good, orders))
    exact = np.maximum(renyi(p, q, orders), renyi(q, p, orders))
    bound = selection.divergences_of_best(one, count)
    assert (exact <= bound).all()
    assert (exact > one).any()  # the search spends more than a run


def renyi(
    p: float, q: float, orders: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Between coins of bias p and q."""
    logs = np.logaddexp(
        orders * math.log(p) + (1 - orders) * math.log(q),
        orders * math.log1p(-p) + (1 - orders) * math.log1p(-q),
    )
    return np.asarray(logs / (orders - 1))


@pytest.mark.parametrize(
    ("distribution", "schedules"),
    [
        ("poisson", [(0.1, 100)]),
        ("geometric", [(256 / 60_000, 2_340), (4_096 / 60_000, 600)]),
        ("logarithmic", [(0.1, 100)]),
    ],
)
def test_a_total_epsilon_is_spent_and_not_passed(
    distribution: Distribution, schedules: list[tuple[float, int]]
) -> None:
    count = RunCount(distribution=distribution, mean=20)
    noises = selection.noise_multipliers_for(3.0, schedules, count, delta=1e-5)
    runs = [
        Run(noise_multiplier=noise, sample_rate=rate, steps=steps)
        for (rate, steps), noise in noises.items()
    ]
    assert 2.97 < selection.epsilon(runs, count, delta=1e-5) <= 3
    for each in runs:  # one run alone spends much less
        spent = accounting.spent(
            noise_multiplier=each.noise_multiplier,
            sample_rate=each.sample_rate,
            steps=each.steps,
            delta=1e-5,
        )
        assert spent.epsilon < 2.6


def test_what_is_out_of_reach_is_refused_with_its_value() -> None:
    with pytest.raises(BadInput, match=r"total_epsilon=1e-09.* 5 runs on average"):
        selection.noise_multipliers_for(
            1e-9, [(0.5, 10_000)], RunCount(distribution="geometric", mean=5), delta=1e-12
        )
    with pytest.raises(BadInput, match=r"'normal'.*poisson, geometric, logarithmic"):
        RunCount(distribution="normal", mean=5)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"0\.5 >= 1"):
        RunCount(distribution="poisson", mean=0.5)


def test_noise_on_scores_costs_nothing_more() -> None:
    """Against dp_accounting's Gaussian mechanism, at every order; a little less noise would."""
    runs = [run(1.0), run(4.0)]
    noise = selection.score_noise(runs)
    training = selection._divergences(runs)
    spends = {}
    for each in (noise, 0.9 * noise):
        accountant = rdp.RdpAccountant(accountants.RDP_ORDERS)
        accountant.compose(dp_accounting.GaussianDpEvent(each))
        spends[each] = np.asarray(accountant.rdp)
    assert (spends[noise] <= training).all()
    assert (spends[0.9 * noise] > training).any()


def test_the_worst_runs_are_those_that_no_other_dominates() -> None:
    runs = [run(1.0, steps=100), run(1.0, steps=50), run(2.0, steps=200), run(2.0, steps=90)]
    assert selection.worst([*runs, *runs]) == [runs[0], runs[2]]


@pytest.mark.parametrize("mean", mostly_slow([5, 10, 20, 50, 100, 300], lambda mean: mean == 20))
def test_a_run_may_spend_what_the_readme_says(mean: int) -> None:
    readme = (ROOT / "dpbench" / "privacy" / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith("|")]
    means = next(row for row in rows if row[0] == "of epsilon 3, mean number of runs")
    schedule = (256 / 60_000, 2_340)
    for distribution in SHAPES:
        said = next(row for row in rows if row[0].startswith(f"`{distribution}`"))
        count = RunCount(distribution=distribution, mean=mean)
        noise = selection.noise_multipliers_for(3, [schedule], count, delta=1e-5)[schedule]
        one = accounting.spent(
            noise_multiplier=noise, sample_rate=schedule[0], steps=schedule[1], delta=1e-5
        )
        assert f"{one.epsilon:.2f}" == said[means.index(str(mean))]
