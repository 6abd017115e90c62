import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import ROOT, mostly_slow

from dpbench import store
from dpbench.errors import BadInput
from dpbench.privacy import accountants, accounting, calibration, prv
from dpbench.privacy.accounting import account, shuffled_event, spent
from dpbench.privacy.calibration import noise_multiplier_for
from dpbench.privacy.selection import Run, epsilon_of_best

MNIST = 60_000


def test_the_tutorials_own_epsilon() -> None:
    # Opacus' MNIST tutorial: noise 1.3, batch 64, ten epochs, delta 1e-5, alphas range(2, 32).
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(1.3, 64 / MNIST, 10 * 938)]
    tutorial = accountant.get_epsilon(1e-5, alphas=list(range(2, 32)))
    assert tutorial == pytest.approx(0.4518, abs=1e-4)
    ours = spent(noise_multiplier=1.3, sample_rate=64 / MNIST, steps=10 * 938, delta=1e-5)
    assert ours.epsilon_rdp == pytest.approx(tutorial, abs=1e-3)  # over more orders, never above
    assert ours.epsilon_rdp is not None
    assert ours.epsilon_rdp <= tutorial + 1e-9


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "epsilons"),
    [
        # runs A, B and C of Opacus' examples/mnist_README.md, by Opacus 1.6 and dp_accounting 0.6
        pytest.param(0.7, 0.004, 45 * 250, (6.0925, 5.4415, 5.4314), id="opacus-table-A"),
        pytest.param(1.1, 0.004, 60 * 250, (2.5029, 2.3055, 2.2955), id="opacus-table-B"),
        pytest.param(1.3, 0.004, 15 * 250, (0.9220, 0.8436, 0.8336), id="opacus-table-C"),
        # opacus/tests/accountants_test.py
        pytest.param(1.5, 0.04, 2250, (7.3291, 6.7774, 6.7688), id="opacus-test"),
        # Abadi et al. 2016, section 5, whose moments accountant says 1.26
        pytest.param(4.0, 0.01, 10_000, (1.0355, 0.957, 0.9470), id="abadi-2016"),
    ],
)
def test_golden_rows(
    noise: float, rate: float, steps: int, epsilons: tuple[float, float, float]
) -> None:
    rdp, of_prv, pld = epsilons
    asked: dict[str, Any] = {"noise_multiplier": noise, "sample_rate": rate, "steps": steps}
    at = spent(**asked, delta=1e-5)
    assert at.accountant == "pld"
    assert at.epsilon == at.epsilon_pld == pytest.approx(pld, abs=1e-3)
    assert at.epsilon_rdp == pytest.approx(rdp, abs=2e-3)
    assert prv.epsilon(**asked, delta=1e-5)[0] == pytest.approx(of_prv, abs=2e-3)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "published", "recomputed"),
    [
        # Abadi et al. 2016, section 5
        pytest.param(4.0, 0.01, 10_000, 1.26, 1.2586, id="abadi-2016"),
        # Opacus' examples/mnist_README.md
        pytest.param(0.7, 0.004, 45 * 250, 6.86, 6.859, id="opacus-table-A"),
        pytest.param(1.1, 0.004, 60 * 250, 2.91, 2.905, id="opacus-table-B"),
        pytest.param(1.3, 0.004, 15 * 250, 1.16, 1.160, id="opacus-table-C"),
    ],
)
def test_the_conversion_of_old_gives_the_published_epsilons(
    noise: float, rate: float, steps: int, published: float, recomputed: float
) -> None:
    """The same divergences by Mironov 2017, proposition 3: rdp - log(delta) / (order - 1)."""
    divergences = accountants.rdp_of_a_step(noise, rate) * steps
    old = min(divergences - math.log(1e-5) / (np.array(accountants.RDP_ORDERS) - 1))
    assert old == pytest.approx(recomputed, abs=6e-4)
    assert round(old, 2) == pytest.approx(published, abs=0.0051)
    at = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=1e-5)
    assert at.epsilon_rdp is not None
    assert at.epsilon_rdp < old


@pytest.mark.parametrize("delta", [0.3, 0.5, 0.9, 0.999])
def test_no_epsilon_is_negative(delta: float) -> None:
    at = spent(noise_multiplier=2.0, sample_rate=64 / MNIST, steps=100, delta=delta)
    told = (at.epsilon, at.epsilon_pld, at.epsilon_rdp, at.epsilon_gdp)
    assert all(epsilon >= 0 for epsilon in told if epsilon is not None)
    assert at.epsilon == 0
    few = [Run(noise_multiplier=2.0, sample_rate=64 / MNIST, steps=100)]
    assert epsilon_of_best(few, delta=delta) >= 0


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta", "true"),
    [
        # Google's PLD at a coarse interval, whose bound is stable when the interval is halved
        pytest.param(0.8, 0.004, 2_340, 1e-13, 5.207, id="opacus-prv-says-4.952"),
        pytest.param(0.7478, 0.014066, 6_273, 1.16e-11, 21.470, id="opacus-prv-says-21.457"),
        pytest.param(100.0, 1.0, 10_000, 1e-11, 6.90182, id="fine-pld-says-6.89984"),
    ],
)
def test_where_deltas_rounding_shows_rdp_steps_in(
    noise: float, rate: float, steps: int, delta: float, true: float
) -> None:
    asked: dict[str, Any] = {"noise_multiplier": noise, "sample_rate": rate, "steps": steps}
    at = spent(**asked, delta=delta)
    assert (at.accountant, at.epsilon_pld, at.epsilon) == ("rdp", None, at.epsilon_rdp)
    assert at.note == f"pld: not exact enough for delta {delta:g} after {steps} steps"
    assert at.epsilon >= true
    assert prv.epsilon(**asked, delta=delta) == (
        None,
        "prv: not exact enough for delta below 1e-10",
    )


@pytest.mark.parametrize("delta", [1e-5, 1e-8, 1e-10, 1e-11, 1e-12])
@pytest.mark.parametrize(
    ("noise", "steps"),
    [(1.0, 10), (5.0, 100), (100.0, 10_000), (1e3, 100), (1e4, 10_000), (1e5, 100_000)],
)
def test_epsilon_is_never_below_that_of_a_gaussian_whose_epsilon_is_known(
    noise: float, steps: int, delta: float
) -> None:
    """Balle and Wang 2018: with sample rate 1 the steps are one Gaussian mechanism."""
    exact = account(shuffled_event(noise_multiplier=noise, epochs=steps), delta)
    assert exact.accountant == "gaussian"
    at = spent(noise_multiplier=noise, sample_rate=1.0, steps=steps, delta=delta)
    assert exact.epsilon <= at.epsilon
    if at.accountant == "pld":
        assert at.epsilon <= 1.02 * exact.epsilon


@pytest.mark.filterwarnings("ignore:Optimal order is the")  # the bound holds
@pytest.mark.parametrize("noise", mostly_slow([0.7, 1.1, 4.0, 100.0], lambda it: it in (1.1, 100)))
@pytest.mark.parametrize("steps", mostly_slow([1, 59, 9_380], lambda it: it == 59))
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_prv_is_what_opacus_says(noise: float, steps: int, delta: float) -> None:
    from opacus.accountants import PRVAccountant

    rate = 64 / MNIST
    theirs = PRVAccountant()
    theirs.history = [(noise, rate, steps)]
    ours, note = prv.epsilon(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta)
    assert (ours, note) == (theirs.get_epsilon(delta), None)


@pytest.mark.parametrize("noise", [1e-12, 1e-3, 1e6])
def test_the_accountants_take_every_noise_that_a_trial_may_have(noise: float) -> None:
    for rate in (1e-4, 0.01, 0.3, 1.0):
        at = spent(noise_multiplier=noise, sample_rate=rate, steps=10, delta=1e-5)
        assert at.epsilon >= 0
        assert math.isfinite(at.epsilon)


def test_gdp_is_only_a_diagnostic() -> None:
    from opacus.accountants import GaussianAccountant

    asked: dict[str, Any] = {"noise_multiplier": 0.7, "sample_rate": 64 / MNIST, "steps": 938}
    at = spent(**asked, delta=1e-5)
    assert at.epsilon_gdp is not None
    assert at.epsilon_gdp < at.epsilon / 2  # 0.284 where PLD says 0.639: no bound
    with pytest.warns(UserWarning, match="GDP accounting is experimental"):
        theirs = GaussianAccountant()
    theirs.history = [tuple(asked.values())]
    assert at.epsilon_gdp == pytest.approx(theirs.get_epsilon(1e-5), abs=1e-4)


def test_no_noise_spends_everything() -> None:
    assert spent(noise_multiplier=0.0, sample_rate=0.1, steps=1, delta=1e-5).epsilon == math.inf


def test_where_prv_would_take_gigabytes_it_is_not_asked() -> None:
    """At noise 0.3, batch size 256 and ten epochs it takes 18 s and 2 GB."""
    asked: dict[str, Any] = {"sample_rate": 256 / MNIST, "steps": 2_340, "delta": 1e-5}
    found, note = prv.epsilon(noise_multiplier=0.3, **asked)
    assert found is None
    assert note is not None
    assert note.startswith("prv: would need ")
    at = spent(noise_multiplier=0.3, **asked)
    assert at.epsilon == pytest.approx(58.062, abs=5e-3)


@pytest.mark.parametrize("noise", mostly_slow([0.3, 0.6, 1.3, 20.0], lambda noise: noise == 0.3))
def test_ten_epochs_are_accounted_for_in_a_moment(noise: float) -> None:
    """60 s for 22 s of training were seen at noise 0.3."""
    start = time.process_time()
    for epoch in range(1, 11):
        spent(noise_multiplier=noise, sample_rate=255 / MNIST, steps=234 * epoch, delta=1e-5)
    assert time.process_time() - start < 5


def test_rows_are_accounted_for_by_one_accountant(tmp_path: Path) -> None:
    """Those of an older version, from what they record; those of this one stay as they are."""
    old = store.read_trials(ROOT / "results" / "mnist-cuda")
    old = old[old["dp_accounting_version"].isna() & (old["epoch"] >= 9)].reset_index(drop=True)
    private = old["noise_multiplier"].notna()
    assert set(old.loc[private, "accountant"]) == {"prv"}
    new = accounting.by_one_accountant(old)
    assert set(new.loc[private, "accountant"]) == {"pld"}
    lower = old.loc[private, "epsilon"] - new.loc[private, "epsilon"]
    assert lower.between(0.008, 0.012).all()  # PRV's own margin
    assert (new["epsilon_prv"].dropna() == old["epsilon_prv"].dropna()).all()
    assert new.loc[~private, "epsilon"].isna().all()
    assert (old.loc[private, "accountant"] == "prv").all()  # the argument is as it was
    marked = new.assign(epsilon=np.where(private, 123.0, np.nan))
    pd.testing.assert_frame_equal(accounting.by_one_accountant(marked), marked)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was solved before is not found, in this process or on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calibration._least_noise.cache_clear()
    return tmp_path / "dpbench" / "solved_noise_multiplier"


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("target_epsilon", mostly_slow([0.5, 1.0, 3.0, 8.0], lambda it: it == 3))
def test_a_solved_noise_multiplier_never_spends_more(target_epsilon: float) -> None:
    asked: dict[str, Any] = {"sample_rate": 256 / MNIST, "steps": 702, "delta": 1e-5}
    noise = noise_multiplier_for(target_epsilon=target_epsilon, **asked)
    assert spent(noise_multiplier=noise, **asked).epsilon <= target_epsilon
    assert spent(noise_multiplier=noise - 1e-3, **asked).epsilon > target_epsilon


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    "target_epsilon",
    mostly_slow(
        [0.01, 0.1, 1.0, 20.0, 40.0, 60.0, 100.0, 371.0, 1e3], lambda it: it in (0.01, 40, 371)
    ),
)
def test_every_target_is_solved_in_seconds(target_epsilon: float) -> None:
    """Today's limits: 3 s and 500 MB. 371 was refused, and 40 to 100 took 4 GB."""
    asked: dict[str, Any] = {"sample_rate": 250 / MNIST, "steps": 2_400, "delta": 1e-5}
    start = time.process_time()
    noise = noise_multiplier_for(target_epsilon=target_epsilon, **asked)
    assert time.process_time() - start < 5  # beside other work; the loops are what counts
    assert 0.985 * target_epsilon <= spent(noise_multiplier=noise, **asked).epsilon
    assert spent(noise_multiplier=noise, **asked).epsilon <= target_epsilon
    assert spent(noise_multiplier=noise - 1e-3, **asked).epsilon > target_epsilon


@pytest.mark.usefixtures("empty_cache")
def test_solving_takes_little_memory() -> None:
    code = (
        "from pathlib import Path\n"
        "from dpbench.privacy.calibration import noise_multiplier_for as solve\n"
        "solve(target_epsilon=100, sample_rate=256 / 60000, steps=2340, delta=1e-5)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout) < 500e6


def test_what_was_solved_before_is_checked_and_not_solved_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"sample_rate": 64 / 1437, "steps": 44, "delta": 1e-5}

    def solve() -> float:
        calibration._least_noise.cache_clear()  # as in another process
        return noise_multiplier_for(target_epsilon=3.0, **asked)

    def refuse(**_: Any) -> float:
        raise AssertionError("solved again")

    noise = solve()
    (file,) = empty_cache.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(accounting, "estimate", refuse)
        assert solve() == noise
        patched.setattr(calibration, "_versions", lambda: ("of other accountants",))
        with pytest.raises(AssertionError, match="solved again"):
            solve()
    for damaged in (noise / 2, 0, math.nan, "much"):  # half of the noise spends more than 3
        file.write_text(json.dumps({"solved_noise_multiplier": damaged}))
        assert solve() == noise
    assert json.loads(file.read_text())["solved_noise_multiplier"] == noise


def test_targets_of_shuffled_batches_are_solved_too() -> None:
    noise = noise_multiplier_for(
        target_epsilon=0.009, sample_rate=64 / 1437, steps=44, delta=1e-5, shuffled_epochs=2
    )
    got = account(shuffled_event(noise_multiplier=noise, epochs=2), 1e-5)
    assert 0.0089 < got.epsilon <= 0.009


@pytest.mark.parametrize(
    ("target_epsilon", "rate", "steps"), [(1e-3, 1.0, 10**6), (1e9, 256 / MNIST, 702)]
)
def test_a_target_out_of_reach_is_named(target_epsilon: float, rate: float, steps: int) -> None:
    with pytest.raises(BadInput, match=re.escape(f"target_epsilon={target_epsilon:g} ")):
        noise_multiplier_for(
            target_epsilon=target_epsilon, sample_rate=rate, steps=steps, delta=1e-5
        )


def test_the_accountants_import_no_torch() -> None:
    code = (
        "import sys; from dpbench.privacy import accounting, calibration;"
        "accounting.spent(noise_multiplier=1.1, sample_rate=0.01, steps=500, delta=1e-5);"
        "assert not {'torch', 'jax', 'opacus'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
