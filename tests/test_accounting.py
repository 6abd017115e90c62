import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from dpbench import accounting
from dpbench.accounting import (
    Run,
    epsilon_of_best,
    noise_multiplier_for,
    spent,
    spent_shuffled,
)
from dpbench.trial import BadInput

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
    ("noise", "rate", "steps", "rdp", "prv"),
    [
        # runs A, B and C of Opacus' examples/mnist_README.md, by Opacus 1.6
        pytest.param(0.7, 0.004, 45 * 250, 6.0925, 5.4415, id="opacus-table-A"),
        pytest.param(1.1, 0.004, 60 * 250, 2.5029, 2.3055, id="opacus-table-B"),
        pytest.param(1.3, 0.004, 15 * 250, 0.9220, 0.8436, id="opacus-table-C"),
        # opacus/tests/accountants_test.py
        pytest.param(1.5, 0.04, 2250, 7.3291, 6.7774, id="opacus-test"),
        # Abadi et al. 2016, section 5, whose moments accountant says 1.26; PLD says 0.9470
        pytest.param(4.0, 0.01, 10_000, 1.0355, 0.957, id="abadi-2016"),
    ],
)
def test_golden_rows(noise: float, rate: float, steps: int, rdp: float, prv: float) -> None:
    at = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=1e-5)
    assert at.accountant == "prv"
    assert at.epsilon == at.epsilon_prv
    assert at.epsilon_rdp == pytest.approx(rdp, abs=2e-3)
    assert at.epsilon_prv == pytest.approx(prv, abs=2e-3)


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
    divergences = accounting._rdp_curve(noise, rate, steps)
    old = min(divergences - math.log(1e-5) / (np.array(accounting.RDP_ORDERS) - 1))
    assert old == pytest.approx(recomputed, abs=6e-4)
    assert round(old, 2) == pytest.approx(published, abs=0.0051)
    at = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=1e-5)
    assert at.epsilon_rdp is not None
    assert at.epsilon_rdp < old


@pytest.mark.parametrize("delta", [0.3, 0.5, 0.9, 0.999])
def test_no_epsilon_is_negative(delta: float) -> None:
    at = spent(noise_multiplier=2.0, sample_rate=64 / MNIST, steps=100, delta=delta)
    told = (at.epsilon, at.epsilon_prv, at.epsilon_rdp, at.epsilon_gdp)
    assert all(epsilon >= 0 for epsilon in told if epsilon is not None)
    assert at.epsilon == 0
    few = [Run(noise_multiplier=2.0, sample_rate=64 / MNIST, steps=100)]
    assert epsilon_of_best(few, delta=delta) >= 0


def test_prv_is_not_asked_where_its_rounding_shows() -> None:
    """Opacus 1.6 says 4.952 at delta 1e-13, where Google's PLD says 5.207."""
    asked = {"noise_multiplier": 0.8, "sample_rate": 0.004, "steps": 2340}
    at = spent(**asked, delta=1e-13)
    assert (at.accountant, at.epsilon_prv, at.epsilon) == ("rdp", None, at.epsilon_rdp)
    assert at.note == "prv: not exact enough for delta below 1e-11"
    assert at.epsilon > 5.207
    assert spent(**asked, delta=1e-11).accountant == "prv"


@pytest.mark.filterwarnings("ignore:Optimal order is the")  # the bound holds
@pytest.mark.parametrize("noise", [0.5, 1.1, 4.0, 100.0])
@pytest.mark.parametrize("steps", [1, 59, 9_380])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_prv_is_what_opacus_says(noise: float, steps: int, delta: float) -> None:
    """Its grid is ours, so that divergences are computed once; that must not be seen."""
    rate = 64 / MNIST
    theirs = accounting._opacus_accountants().PRVAccountant()
    theirs.history = [(noise, rate, steps)]
    ours = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta)
    assert ours.epsilon_prv == pytest.approx(theirs.get_epsilon(delta), rel=1e-12)


@pytest.mark.parametrize("noise", [1e-12, 1e-3, 1e6])
def test_the_accountants_take_every_noise_that_a_trial_may_have(noise: float) -> None:
    for rate in (1e-4, 0.01, 0.3, 1.0):
        at = spent(noise_multiplier=noise, sample_rate=rate, steps=10, delta=1e-5)
        assert at.epsilon >= 0
        assert math.isfinite(at.epsilon)


def test_gdp_is_only_a_diagnostic() -> None:
    at = spent(noise_multiplier=0.7, sample_rate=64 / MNIST, steps=938, delta=1e-5)
    assert at.epsilon_gdp is not None
    assert at.epsilon_prv is not None
    assert at.epsilon_gdp < at.epsilon_prv / 2  # 0.284 where PRV says 0.649: no bound


def test_no_noise_spends_everything() -> None:
    assert spent(noise_multiplier=0.0, sample_rate=0.1, steps=1, delta=1e-5).epsilon == math.inf


def test_where_prv_fails_rdp_answers_and_the_reason_is_kept() -> None:
    at = spent(noise_multiplier=0.05, sample_rate=0.01, steps=1000, delta=1e-5)
    assert at.epsilon_prv is None
    assert at.accountant == "rdp"
    assert at.epsilon == at.epsilon_rdp
    assert at.note is not None
    assert at.note.startswith("prv: would need ")


@pytest.mark.parametrize("target_epsilon", [0.5, 1.0, 3.0, 8.0])
def test_a_solved_noise_multiplier_never_spends_more(target_epsilon: float) -> None:
    asked: dict[str, Any] = {"sample_rate": 256 / MNIST, "steps": 702, "delta": 1e-5}
    noise = noise_multiplier_for(target_epsilon=target_epsilon, **asked)
    assert spent(noise_multiplier=noise, **asked).epsilon <= target_epsilon
    assert spent(noise_multiplier=noise - 1e-3, **asked).epsilon > target_epsilon


def test_shuffled_batches_need_no_margin_of_prv() -> None:
    noise = noise_multiplier_for(
        target_epsilon=0.009, sample_rate=64 / 1437, steps=44, delta=1e-5, shuffled_epochs=2
    )
    got = spent_shuffled(noise_multiplier=noise, epochs=2, delta=1e-5, if_poisson=0)
    assert 0.0089 < got.epsilon <= 0.009


@pytest.mark.parametrize("target_epsilon", [0.005, 1e6])
def test_a_target_out_of_reach_is_named(target_epsilon: float) -> None:
    with pytest.raises(BadInput, match=re.escape(f"target_epsilon={target_epsilon:g} ")):
        noise_multiplier_for(
            target_epsilon=target_epsilon, sample_rate=256 / MNIST, steps=702, delta=1e-5
        )


def test_without_torch_the_accountants_are_the_same() -> None:
    # A fresh interpreter imports them without torch; this one has the whole of opacus imported.
    code = (
        "import sys; from dpbench.accounting import spent;"
        "print(spent(noise_multiplier=1.1, sample_rate=0.01, steps=500, delta=1e-5));"
        "assert 'torch' not in sys.modules;"
        "import opacus; assert opacus.PrivacyEngine; assert 'torch' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import opacus.accountants

    accounting._opacus_accountants.cache_clear()
    assert accounting._opacus_accountants() is opacus.accountants
    here = spent(noise_multiplier=1.1, sample_rate=0.01, steps=500, delta=1e-5)
    assert done.stdout.strip() == str(here)
