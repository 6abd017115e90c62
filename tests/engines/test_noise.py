import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from factories import make_trial

from dpbench.engines import noise
from dpbench.engines.noise import Noise, normals
from dpbench.trial import Trial

SPREAD = 1.3
MANY = noise.MANY


@pytest.fixture
def trial() -> Trial:
    return make_trial("bookkeeping", noise_multiplier=2 * SPREAD, max_grad_norm=0.5)


@pytest.mark.parametrize(
    "shapes",
    [
        [(MANY,)],
        [(MANY + 7,)],  # the last sixteen are drawn again
        [(300, 100), (100,), (100, 10), (10,)],  # a pair's second number is left for the next step
        [(3,), (MANY,), (1,), (15,), (16,), (17,), (), (2, 0)],
    ],
)
def test_compiled_noise_is_pytorchs(
    shapes: Sequence[tuple[int, ...]], trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = [torch.empty(shape) for shape in shapes]
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    fused_multiply_add = torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}
    ours = Noise(parameters, trial, generators[0])
    assert ours._normals is not None
    monkeypatch.setattr(noise, "_compiled", lambda: None)
    theirs = Noise(parameters, trial, generators[1])
    for _ in range(3):
        ours.draw()
        theirs.draw()
        for one, other, shape in zip(ours.drawn, theirs.drawn, shapes, strict=True):
            assert one.shape == shape
            torch.testing.assert_close(one, other, rtol=1e-6, atol=4e-6)
            assert torch.equal(one, other) or not fused_multiply_add
        assert torch.equal(*(each.get_state() for each in generators))


def test_few_numbers_and_other_types_are_pytorchs_own(trial: Trial) -> None:
    for parameter in (torch.empty(MANY - 1), torch.empty(2 * MANY, dtype=torch.float64)):
        ours = Noise([parameter], trial, torch.Generator().manual_seed(5))
        ours.draw()
        fresh = torch.Generator().manual_seed(5)
        assert torch.equal(ours.drawn[0], parameter.normal_(0.0, SPREAD, generator=fresh))


def test_no_noise_is_zero() -> None:
    ours = Noise([torch.empty(MANY)], make_trial("non-private"), torch.Generator())
    ours.drawn[0].fill_(1.0)  # as the sums of the step before
    ours.draw()
    assert not ours.drawn[0].any()


def test_every_uniform_number_makes_the_right_normal() -> None:
    """All 2^24 radii, and all 2^24 angles, against float64."""
    exact = np.arange(2**24, dtype=np.float64)
    radii = exact.astype(np.float32)
    normals.to_radii(radii, *np.empty((2, 2**24), np.int32))
    np.testing.assert_allclose(radii, np.sqrt(-2 * np.log(1 - exact / 2**24)), rtol=3e-7)
    across, up = np.ones(2**24, np.float32), exact.astype(np.float32)
    normals.to_normals(across, up, np.float32(1))
    # 5e-7: PyTorch rounds the angle to float32
    angles = 2 * math.pi / 2**24 * exact
    np.testing.assert_allclose(across, np.cos(angles), rtol=0, atol=5e-7)
    np.testing.assert_allclose(up, np.sin(angles), rtol=0, atol=5e-7)
