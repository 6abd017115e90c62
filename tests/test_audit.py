"""An audit must find each planted defect in an engine, and none where none is planted."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import mostly_slow, tutorial_cnn

from bench import audit_seeds
from dpbench import audit, engines
from dpbench.auditing import audits, bounds, canaries, one_run, residuals, trade_off
from dpbench.auditing.audited_run import audited_run
from dpbench.auditing.claim import BREAKS, PARAMETERS, Break, Claim, default_batch_size
from dpbench.auditing.finding import SHARE, Finding, judge
from dpbench.auditing.one_run import Guesses
from dpbench.auditing.residuals import Residuals

# 256 canaries and three runs find every defect at this seed and cost a third of the defaults
SMALL: dict[str, Any] = {"canaries": 256, "batch_size": 128, "runs": 3}


def small(engine: str, broken: Break | None = None) -> Finding:
    return audits.audit(Claim(engine=engine, broken=broken, **SMALL))


def by_default(engine: str, broken: Break | None, seed: int = 0) -> Finding:
    size = default_batch_size(Claim(engine=engine).canaries, broken)
    return audits.audit(Claim(engine=engine, broken=broken, seed=seed, batch_size=size))


def alone(noise: float, *, steps: int = 4, runs: int = 4, seed: int = 0) -> list[Residuals]:
    """Residuals of runs whose steps add so much noise."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        vectors = noise * rng.standard_normal((steps, PARAMETERS - 512), dtype=np.float32)
        squares = float((vectors.astype(float) ** 2).sum())
        found.append(
            Residuals(vectors=vectors, squares=squares, dimensions=PARAMETERS - 512, steps=steps)
        )
    return found


FAST = ("fused", "bookkeeping")


@pytest.mark.parametrize("engine", mostly_slow(engines.private_names(), lambda it: it in FAST))
def test_no_engine_is_refuted(engine: str) -> None:
    found = small(engine)
    assert found.consistent
    assert found.verdict == "consistent"
    assert 0.3 < found.family_bound < found.claimed  # the audit sees something of the canaries
    assert 0.95 * found.claimed < found.noise_bound < found.claimed


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize(
    "engine",
    ["fused", pytest.param("opacus-hooks", marks=pytest.mark.long)],  # defects are not an engine's
)
def test_a_broken_engine_is_caught(engine: str, broken: Break) -> None:
    """By what sees it, as README says it: each of the three is needed for some defect."""
    found = small(engine, broken)
    assert not found.consistent
    assert (found.noise_bound > found.claimed) == (
        broken in ("noise-0.8", "noise-halved", "noise-once-per-epoch")
    )
    if broken in ("noise-0.8", "noise-halved"):
        assert found.independent
    if broken == "no-clipping":
        assert found.family_bound > found.claimed
    if broken == "noise-repeated":
        assert not found.independent
        assert found.correlation > 0.99
        assert found.verdict == "NOISE OF STEPS CORRELATED"
    else:
        assert found.verdict == "NOT AS PRIVATE AS CLAIMED"


def test_the_noise_is_measured_to_a_hundredth() -> None:
    found = small("fused")
    assert 2.4 < found.measured_noise < 2.4 * 1.01
    assert small("fused", "noise-0.8").measured_noise == pytest.approx(
        0.8 * found.measured_noise, rel=1e-3
    )


@pytest.mark.slow  # above, no engine is refuted
@pytest.mark.parametrize(
    "claimed",
    [
        {"noise_multiplier": 0.03},
        {"noise_multiplier": 0.5, "batch_size": 64, "epochs": 2},
    ],
    ids=str,
)
def test_weights_that_move_are_not_taken_for_correlated_noise(claimed: dict[str, Any]) -> None:
    found = audits.audit(Claim(engine="fused", runs=1, **claimed))
    assert found.consistent
    assert found.noise_bound > 0.95 * found.claimed


@pytest.mark.long
@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("engine", engines.private_names())
def test_every_broken_engine_is_caught_by_the_defaults(engine: str, broken: Break) -> None:
    assert not by_default(engine, broken).consistent


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_the_verdicts_do_not_hang_on_the_seed(seed: int) -> None:
    verdicts = {broken: by_default("fused", broken, seed).consistent for broken in (None, *BREAKS)}
    assert verdicts == {None: True} | dict.fromkeys(BREAKS, False)


@pytest.mark.parametrize("batch_size", mostly_slow([512, 256], lambda size: size == 256))
def test_a_correct_mechanism_is_not_refuted_in_simulated_games(batch_size: int) -> None:
    claim = Claim(engine="fused", batch_size=batch_size)
    rng = np.random.default_rng(7)
    findings = [audit_seeds.game(claim, rng) for _ in range(8)]
    assert all(finding.consistent for finding in findings)
    assert all(finding.noise_bound > 0.95 * finding.claimed for finding in findings)


def test_engines_are_audited_by_the_same_coins() -> None:
    claim = Claim(engine="fused", **SMALL)
    seed = np.random.SeedSequence(3)
    first, again = (audited_run(claim, np.random.SeedSequence(3)) for _ in range(2))
    assert first.guesses == again.guesses
    assert first.residuals.squares == again.residuals.squares
    assert audited_run(claim, seed.spawn(1)[0]).guesses != first.guesses


@pytest.fixture(scope="module")
def planted() -> tuple[canaries.Canaries, torch.Tensor]:
    """Canaries and their clipped gradients."""
    model = tutorial_cnn(seed=1, device="cpu")
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
    model = tutorial_cnn(seed=0, device="cpu")
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
    found_by = canaries.Filter(gradients, sample_rate=0.5)
    scores = found_by.scores(noisy, noise=noise**2)
    order = np.argsort(scores)
    found = float(member[torch.from_numpy(order[-int(member.sum()) :].copy())].float().mean())
    assert found == 1 if noise == 0 else found > 0.45  # of a quarter by chance


def test_a_residual_is_noise_alone_whoever_is_in(
    planted: tuple[canaries.Canaries, torch.Tensor],
) -> None:
    _, gradients = planted
    rng = torch.Generator().manual_seed(0)
    filter_ = canaries.Filter(gradients, sample_rate=0.5)
    noise = torch.randn(PARAMETERS, generator=rng)
    residual = filter_.residual(noise)
    assert filter_.dimensions == PARAMETERS - 256
    assert float(residual.square().sum()) == pytest.approx(filter_.dimensions, rel=0.03)
    assert (gradients @ residual).abs().max() < 1e-3
    for fraction in (0.25, 1.0):
        member = torch.rand(256, generator=rng) < fraction
        with_members = filter_.residual(gradients[member].sum(dim=0) + noise)
        assert float((with_members - residual).norm()) < 0.01  # of a norm of 160


def test_the_verdict_needs_more_than_luck() -> None:
    claim = Claim(engine="fused")
    lucky = [Guesses(canaries=512, made=128, right=right) for right in (105, 105, 105, 70)]
    assert judge(claim, lucky, alone(2.4)).consistent
    sure = [Guesses(canaries=512, made=128, right=128)] * 4
    finding = judge(claim, sure, alone(2.4))
    assert not finding.consistent
    assert finding.noise_bound < finding.claimed < finding.family_bound == finding.lower_bound


@pytest.mark.parametrize(("times", "refuted"), [(1.0, False), (1.1, False), (0.98, True)])
def test_two_hundredths_less_noise_are_refuted(times: float, refuted: bool) -> None:
    coin = [Guesses(canaries=512, made=128, right=64)] * 4
    finding = judge(Claim(engine="fused"), coin, alone(times * 2.4))
    assert finding.consistent != refuted
    assert finding.family_bound == finding.any_bound == 0
    assert finding.lower_bound == finding.noise_bound


def test_noise_of_steps_that_is_correlated_is_refuted_by_itself() -> None:
    coin = [Guesses(canaries=512, made=128, right=64)] * 4
    runs = alone(2.4)
    assert judge(Claim(engine="fused"), coin, runs).consistent
    runs[3].vectors[2] = 0.9 * runs[3].vectors[2] + 0.1**0.5 * runs[1].vectors[0]
    finding = judge(Claim(engine="fused"), coin, runs)
    assert not finding.consistent
    assert finding.lower_bound < finding.claimed
    assert 0.2 < finding.correlation < 0.4


def test_the_four_statements_share_the_error() -> None:
    """A guess bound has 0.498 of it; each of the others 0.002, and all add up to it."""
    claim = Claim(engine="fused", confidence=0.9)
    guesses = [Guesses(canaries=512, made=128, right=right) for right in (100, 101, 99, 100)]
    noise_alone = alone(2.4)
    finding = judge(claim, guesses, noise_alone)

    def curve(noise: float) -> trade_off.Curve:
        return trade_off.curve(noise_multiplier=noise, sample_rate=1.0, steps=4)

    def bounds(confidence: float) -> tuple[float, float]:
        noise = one_run.noise_bound(guesses, curve, claimed=2.4, confidence=confidence)
        assert noise is not None
        any_bound = one_run.epsilon_bound(guesses, delta=1e-5, confidence=confidence)
        return curve(noise).epsilon(1e-5), any_bound

    assert (finding.family_bound, finding.any_bound) == bounds(1 - 0.1 * 0.498)
    assert all(one < other for one, other in zip(bounds(0.95), bounds(0.9), strict=True))
    measured = residuals.noise_bound(noise_alone, confidence=1 - 0.1 * 0.002)
    assert finding.measured_noise == measured
    assert round(2 * 0.498 + 2 * SHARE, 9) == 1


def test_at_a_large_delta_nothing_is_claimed_and_nothing_refuted() -> None:
    right = [Guesses(canaries=512, made=128, right=100)] * 4
    finding = judge(Claim(engine="fused", delta=0.9), right, alone(2.4))
    assert (finding.claimed, finding.lower_bound) == (0, 0)
    assert finding.consistent


@pytest.mark.parametrize(("squares", "bound"), [(0.0, "finite"), (math.inf, "none")])
def test_no_noise_and_no_number_have_a_finding(squares: float, bound: str) -> None:
    coin = [Guesses(canaries=512, made=128, right=64)] * 2
    runs = [replace(each, squares=squares) for each in alone(1.0, runs=2)]
    finding = judge(Claim(engine="fused"), coin, runs)
    if bound == "none":
        assert finding.noise_bound == 0
    else:
        assert finding.claimed < finding.noise_bound < math.inf


def test_a_delta_that_publishes_examples_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    given = "--engine fused --canaries 16 --batch-size 16 --runs 1 --epochs 1 --device cpu"
    assert audit.main([*given.split(), "--delta", "0.5"]) == 0
    assert "delta = 0.5 is not below 1/N = 0.062 (N = 16)" in capsys.readouterr().err
    assert audit.main(given.split()) == 0
    assert "delta" not in capsys.readouterr().err


def test_the_model_has_as_many_parameters_as_a_claim_says() -> None:
    model = tutorial_cnn(seed=0, device="cpu")
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS


def test_the_command_prints_a_line_an_engine_and_exits_3_on_a_defect(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = "--engine fused --canaries 128 --batch-size 64 --runs 3 --device cpu".split()
    assert audit.main([*given, "--break", "no-clipping"]) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Epsilon claimed, and at least, with 95 % confidence; 384 canaries:"
    assert said[1].split() == "engine claimed noise guesses any right verdict".split()
    assert said[2].startswith("fused ")
    assert said[2].endswith("NOT AS PRIVATE AS CLAIMED")
    assert max(map(len, said)) <= 80
    claimed, by_noise, by_guesses = map(float, said[2].split()[1:4])
    assert by_noise < claimed < by_guesses  # the noise is there
    explained = " ".join(line.strip() for line in said[3:])
    for column, text in bounds.BOUNDS.items():
        assert f"{column}: {text}" in explained
    assert f"Verdict: {bounds.VERDICT} Threat model: {bounds.THREAT_MODEL}" in explained
    assert audit.main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["canaries"] == 128
    assert told["bounds"] == bounds.BOUNDS
    assert told["verdicts"] == bounds.VERDICT
    (row,) = told["rows"]
    lower = [row[name] for name in ("noise_bound", "family_bound", "any_bound")]
    assert row["lower_bound"] == max(lower)
    assert row["verdict"] == "consistent"
    assert told["rows"][0]["engine"] == "fused"
    assert told["rows"][0]["consistent"]


BAD = {
    "no claim": ("--engine non-private", "engine='non-private' to be one of"),
    "unknown": ("--engine fast", "engine='fast' to be one of"),
    "twice": ("--engine fused fused", "each engine once"),
    "no noise": ("--noise-multiplier 0", "noise_multiplier=0.0 > 0"),
    "large batch": ("--canaries 100 --batch-size 256", "batch_size=256 <= canaries=100"),
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


def test_help_says_what_each_column_assumes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        audit.main(["--help-all"])
    said = " ".join(capsys.readouterr().out.split())
    for column, text in bounds.BOUNDS.items():
        assert f"{column}: {text}" in said
    assert bounds.VERDICT in said


def test_with_noise_once_an_epoch_an_epoch_has_two_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = "--engine fused --canaries 128 --runs 1 --device cpu --json".split()
    assert audit.main([*given, "--break", "noise-once-per-epoch"]) == 3
    assert json.loads(capsys.readouterr().out)["batch_size"] == 64
    assert audit.main(given) == 0
    assert json.loads(capsys.readouterr().out)["batch_size"] == 128


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    probe = (
        "import sys, dpbench.audit\ntry:\n dpbench.audit.main(['--help'])\n"
        "except SystemExit: pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
