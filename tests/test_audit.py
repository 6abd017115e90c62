"""An audit must find each planted defect in an engine, and none where none is planted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpbench import audit, models
from dpbench.audits import canaries, one_run, trade_off
from dpbench.audits.audited_run import audited_run
from dpbench.audits.claim import BREAKS, PARAMETERS, Break, Claim
from dpbench.audits.one_run import Guesses
from dpbench.trial import PRIVATE_ENGINES, EngineName

# 256 canaries and three runs find every defect at this seed and cost a third of the defaults
SMALL: dict[str, Any] = {"canaries": 256, "batch_size": 128, "runs": 3}


def small(engine: EngineName, broken: Break | None = None) -> audit.Finding:
    return audit.audit(Claim(engine=engine, broken=broken, **SMALL))


@pytest.mark.parametrize("engine", PRIVATE_ENGINES)
def test_no_engine_is_refuted(engine: EngineName) -> None:
    found = small(engine)
    assert found.consistent
    assert 0.3 < found.lower_bound < found.claimed  # the audit sees something of the canaries


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("engine", ["fused", "opacus-hooks"])
def test_a_broken_engine_is_caught(engine: EngineName, broken: Break) -> None:
    found = small(engine, broken)
    assert not found.consistent
    assert found.lower_bound > found.claimed


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("engine", PRIVATE_ENGINES)
def test_every_broken_engine_is_caught_by_the_defaults(engine: EngineName, broken: Break) -> None:
    assert not audit.audit(Claim(engine=engine, broken=broken)).consistent


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_the_verdicts_do_not_hang_on_the_seed(seed: int) -> None:
    verdicts = {
        broken: audit.audit(Claim(engine="fused", broken=broken, seed=seed)).consistent
        for broken in (None, *BREAKS)
    }
    assert verdicts == {None: True} | dict.fromkeys(BREAKS, False)


def test_engines_are_audited_by_the_same_coins() -> None:
    claim = Claim(engine="fused", **SMALL)
    seed = np.random.SeedSequence(3)
    first, again = (audited_run(claim, np.random.SeedSequence(3)) for _ in range(2))
    assert first == again
    assert audited_run(claim, seed.spawn(1)[0]) != first


@pytest.fixture(scope="module")
def planted() -> tuple[canaries.Canaries, torch.Tensor]:
    """Canaries and their clipped gradients."""
    model = models.tutorial_cnn(seed=1, device="cpu")
    made = canaries.craft(model, count=256, scale=100.0, seed=2)
    return made, canaries.clipped_gradients(model, made, 1.0)


def test_canaries_are_clipped_in_every_layer_and_hardly_correlated(
    planted: tuple[canaries.Canaries, torch.Tensor],
) -> None:
    _, gradients = planted
    assert (gradients.norm(dim=1) > 0.999).all()  # all are longer than the clipping norm
    gram = gradients @ gradients.T
    alone = 1 / torch.linalg.inv(gram.double()).diagonal()  # what no other canary explains
    assert alone.median() > 0.85
    model = models.tutorial_cnn(seed=0, device="cpu")
    sizes = [parameter.numel() for parameter in model.parameters()]
    weights = [part for part in gradients.split(sizes, dim=1) if part.shape[1] > 300]
    for part in weights:
        assert part.square().sum(dim=1).mean() > 0.005


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_filter_finds_who_is_in_a_sum(
    noise: float, planted: tuple[canaries.Canaries, torch.Tensor]
) -> None:
    _, gradients = planted
    rng = torch.Generator().manual_seed(0)
    member = torch.rand(256, generator=rng) < 0.25
    noisy = gradients[member].sum(dim=0)
    noisy += noise * torch.randn(noisy.shape, generator=rng)
    scores = canaries.Filter(gradients, sample_rate=0.5).scores(noisy)
    order = np.argsort(scores)
    found = float(member[torch.from_numpy(order[-int(member.sum()) :].copy())].float().mean())
    assert found == 1 if noise == 0 else found > 0.45  # of a quarter by chance


def test_the_verdict_needs_more_than_luck() -> None:
    claim = Claim(engine="fused")
    lucky = [Guesses(canaries=512, made=128, right=right) for right in (100, 100, 100, 70)]
    assert audit.judge(claim, lucky).consistent
    sure = [Guesses(canaries=512, made=128, right=128)] * 4
    finding = audit.judge(claim, sure)
    assert not finding.consistent
    assert finding.lower_bound == max(finding.family_bound, finding.any_bound)


def test_each_of_the_two_bounds_may_err_half_as_often() -> None:
    claim = Claim(engine="fused", confidence=0.9)
    runs = [Guesses(canaries=512, made=128, right=right) for right in (100, 101, 99, 100)]
    finding = audit.judge(claim, runs)

    def curve(noise: float) -> trade_off.Curve:
        return trade_off.curve(noise_multiplier=noise, sample_rate=0.5, steps=8)

    def bounds(confidence: float) -> tuple[float, float]:
        noise = one_run.noise_bound(runs, curve, claimed=2.0, confidence=confidence)
        assert noise is not None
        any_bound = one_run.epsilon_bound(runs, delta=1e-5, confidence=confidence)
        return curve(noise).epsilon(1e-5), any_bound

    assert (finding.family_bound, finding.any_bound) == bounds(0.95)
    assert all(one < other for one, other in zip(bounds(0.95), bounds(0.9), strict=True))


def test_at_a_large_delta_nothing_is_claimed_and_nothing_refuted() -> None:
    right = [Guesses(canaries=512, made=128, right=100)] * 4
    finding = audit.judge(Claim(engine="fused", delta=0.9), right)
    assert (finding.claimed, finding.lower_bound) == (0, 0)
    assert finding.consistent


def test_the_model_has_as_many_parameters_as_a_claim_says() -> None:
    model = models.tutorial_cnn(seed=0, device="cpu")
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS


def test_the_command_prints_a_line_an_engine_and_exits_3_on_a_defect(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = "--engine fused --canaries 128 --batch-size 64 --runs 3 --device cpu".split()
    assert audit.main([*given, "--break", "no-clipping"]) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("engine")
    assert said[1].startswith("fused ")
    assert said[1].endswith("NOT AS PRIVATE AS CLAIMED")
    assert said[0].split()[3:7] == ["lower", "bound", "any", "mechanism"]
    assert float(said[1].split()[2]) > float(said[1].split()[1]) > float(said[1].split()[3])
    assert said[2] == audit.BOUNDS
    assert said[3].startswith("Threat model: white box.")
    assert audit.main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["canaries"] == 128
    assert told["bounds"] == audit.BOUNDS
    assert told["rows"][0]["any_bound"] <= told["rows"][0]["lower_bound"]
    assert told["rows"][0]["engine"] == "fused"
    assert told["rows"][0]["consistent"]


BAD = {
    "no claim": ("--engine non-private", "engine='non-private' to be one of"),
    "unknown": ("--engine fast", "engine='fast' to be one of"),
    "twice": ("--engine fused fused", "each engine once"),
    "no noise": ("--noise-multiplier 0", "noise_multiplier=0.0 > 0"),
    "large batch": ("--canaries 100", "batch_size=256 <= canaries=100"),
    "few canaries": ("--canaries 4 --batch-size 2", "canaries=4 >= 16"),
    "many canaries": ("--canaries 26010", "canaries=26010 < 26,010, the parameters of the model"),
    "nothing to break": (
        "--break noise-once-per-epoch --batch-size 342",
        "batch_size=342 to be at most two thirds of canaries=512",
    ),
    "endless noise": ("--noise-multiplier 1e300", "noise_multiplier=1e+300 >= 0 and <= 1,000,000"),
    "no run": ("--runs 0", "runs=0 >= 1"),
    "too sure": ("--confidence 1", "confidence=1.0 > 0 and < 1"),
    "no delta": ("--delta 0", "delta=0.0 > 0 and < 1"),
    "no device": ("--device tpu", "device='tpu'"),
    "no defect": ("--break everything", "invalid choice: 'everything'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = audit.main(arguments.split())
    except SystemExit as error:  # argparse's own
        code = error.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    probe = (
        "import sys, dpbench.audit\ntry:\n dpbench.audit.main(['--help'])\n"
        "except SystemExit: pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
