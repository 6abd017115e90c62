import math
import re
import subprocess
import sys
from typing import Any

import pytest

from dpbench import accounting
from dpbench.accounting import noise_multiplier_for, spent
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
