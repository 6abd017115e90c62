"""README's numbers are those of the committed results, and its commands are commands."""

import dataclasses
import json
import re
import shlex

import pandas as pd
import pytest
import stores
from factories import ROOT

from bench import efficiency, launches
from bench.peers import race, stacks
from dpbench import analysis, audit, compare, epsilon, report, store, sweep, timing
from dpbench.reporting import text

README = (ROOT / "README.md").read_text(encoding="utf-8")
FLAT = " ".join(README.split())
MNIST = ROOT / "results" / "mnist"
CUDA = ROOT / "results" / "mnist-cuda"
PEERS = ROOT / "results" / "peers"
SATURATION = ROOT / "results" / "saturation" / "saturation.json"
EFFICIENCY = ROOT / "results" / "efficiency" / "efficiency.json"


@pytest.fixture(scope="module")
def timings() -> pd.DataFrame:
    return store.read_timings(MNIST)


def test_the_answers_are_those_of_the_grid() -> None:
    for sentence in stores.sentences(MNIST):
        assert " ".join(sentence.split()) in FLAT


def test_the_timings_are_printed_as_they_were_measured(timings: pd.DataFrame) -> None:
    at = timings[timings["batch_size"] == 256]
    lines = timing.as_text(at, "mnist").splitlines()
    assert len(lines) > 10
    assert [line for line in lines if line not in README] == []


def test_what_the_tutorials_reader_pays_is_what_was_measured(timings: pd.DataFrame) -> None:
    for line in timing.as_text(timings, "mnist").splitlines():
        if line.startswith("opacus-as-shipped takes"):
            assert line.rstrip(".") in FLAT


def test_the_race_is_printed_as_it_was_run() -> None:
    raced = json.loads((PEERS / "race.json").read_text(encoding="utf-8"))
    fields = [each.name for each in dataclasses.fields(race.Result)]
    results = [race.Result(**{name: row[name] for name in fields}) for row in raced["rows"]]
    assert race.text(results, raced["trials"], raced["epochs"]) in README


def test_the_ratios_of_further_races_are_said() -> None:
    said = []
    for path in sorted(PEERS.glob("race-*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        *first, last = (f"{row['times_as_fast']:.2f}" for row in rows)
        said.append(f"{', '.join(first)} and {last}")
    assert len(said) == 2
    assert f"the four ratios were {'; '.join(said)}." in FLAT
    every = [json.loads(path.read_text(encoding="utf-8")) for path in PEERS.glob("race*.json")]
    theirs, ours = (
        sum(raced["rows"][2][name] for raced in every)
        for name in ("tutorial_seconds", "sweep_seconds")
    )
    assert f"is {theirs / ours:.2f} over all three runs" in FLAT


def test_the_steps_of_peers_are_those_measured() -> None:
    measured = json.loads((PEERS / "step.json").read_text(encoding="utf-8"))["rows"]
    for name in {row["step"] for row in measured}:
        ratios = [f"{row['ratio']:.2f}" for row in measured if row["step"] == name]
        assert f"| {name} | {' | '.join(ratios)} |" in README


def test_the_timings_on_a_gpu_are_those_measured() -> None:
    summary = analysis.overhead(store.read_timings(CUDA)).sort_values("batch_size")
    engines = set(summary["engine"]) - {"non-private"}
    assert len(engines) == 5
    for name in engines:
        rows = summary[summary["engine"] == name].to_dict("records")
        ends = ("overhead_ratio", "overhead_ratio_low", "overhead_ratio_high")
        ratios = [text.ratio(*(row[end] for end in ends))[0] for row in rows]
        assert f"| {name} | {' | '.join(ratios)} |" in README


def test_the_launches_are_those_counted() -> None:
    found = json.loads((CUDA / "launches.json").read_text(encoding="utf-8"))
    assert launches.text(found["rows"]) in README
    took = {
        (row["step"], row["batch_size"]): row["one_by_one"]["milliseconds"] for row in found["rows"]
    }
    first, second, third = (
        f"{took['opacus-hooks', size] / took['non-private', size]:.1f}" for size in (64, 256, 1024)
    )
    assert f"Opacus' hooks take {first}, {second} and {third} times as long" in FLAT


def test_the_stacks_are_printed_as_they_were_run() -> None:
    found = json.loads((PEERS / "stacks.json").read_text(encoding="utf-8"))
    names = {each.name for each in dataclasses.fields(stacks.Alone)}
    alone = [
        stacks.Alone(**{key: value for key, value in row.items() if key in names})
        for row in found["alone"]
    ]
    swept = [stacks.Swept(**row) for row in found["stacked"]]
    assert stacks.text(swept, alone) in README
    assert stacks.times_as_fast(swept, alone)[stacks.TUTORIAL] >= stacks.WANTED


def test_the_efficiency_is_the_one_measured() -> None:
    found = json.loads(EFFICIENCY.read_text(encoding="utf-8"))
    fields = ("trials", "workers", "wall_seconds", "train_seconds")
    measured = efficiency.Measured(**{name: found[name] for name in fields})
    assert str(measured) in README
    assert measured.share >= efficiency.WANTED


def test_the_saturation_is_the_one_measured() -> None:
    measured = json.loads(SATURATION.read_text(encoding="utf-8"))
    each = f"{measured['wall_milliseconds_per_trial']:.1f} ms a trial"
    assert f"{measured['trials']:,} trials" in FLAT
    assert each in FLAT
    for row in measured["saturation"]:
        shortest = row["shortest_trial_milliseconds"] / 1000
        assert f"| {row['places']:,} | {shortest:.1f} s |" in README


COMMANDS = {
    each.__name__.partition(".")[2]: each
    for each in (sweep, report, timing, compare, audit, epsilon)
}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [line for line in lines if line.startswith("python -m dpbench.")]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)[2:]
    COMMANDS[name.removeprefix("dpbench.")]._parser().parse_args(arguments)
