"""READMEs: their numbers are those of the committed results; their commands and links work."""

import argparse
import ast
import dataclasses
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from factories import ROOT, TESTS

import dpbench
from bench import efficiency, launches
from bench.peers import race, stacks
from dpbench import __main__, epsilon, store
from dpbench.analysis import step_overhead
from dpbench.auditing.claim import Claim, default_batch_size
from dpbench.execution import grid_trials, sweep_file
from dpbench.privacy import accounting
from dpbench.reporting import quantities, timing_table

RESULTS = ROOT / "results"
GRID, CUDA, PEERS, QUICK = (
    RESULTS / name for name in ("mnist-grid", "mnist-cuda", "peers", "mnist-quick")
)
PAGES = sorted(
    [ROOT / "README.md"]
    + [page for room in ("bench", "dpbench", "results") for page in (ROOT / room).rglob("*.md")]
)


def read(*parts: str) -> str:
    return ROOT.joinpath(*parts, "README.md").read_text(encoding="utf-8")


def flat(page: str) -> str:
    return " ".join(page.split())


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def timings() -> pd.DataFrame:
    return store.read_timings(GRID)


# Length, links, commands and code


def test_the_readme_is_short() -> None:
    assert len(read().splitlines()) <= 180


def test_every_results_folder_says_which_command_made_it() -> None:
    folders = [path for path in RESULTS.iterdir() if path.is_dir()]
    assert len(folders) >= 12
    for folder in folders:
        assert blocks("sh", read("results", folder.name)), folder.name


def test_the_table_of_results_has_every_folder() -> None:
    linked = set(re.findall(r"^\| \[([\w-]+)\]", read("results"), flags=re.MULTILINE))
    assert linked == {path.name for path in RESULTS.iterdir() if path.is_dir()}


def broken_links(page: Path, content: str) -> Iterator[str]:
    """Of relative links: no such file, or no such heading in it."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", content):
        if target.startswith("http"):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            yield target
        elif anchor:
            document = path / "README.md" if path.is_dir() else path
            headings = re.findall(r"^#+ (.*)", document.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(slug, headings):
                yield f"{target}#{anchor}"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page, page.read_text(encoding="utf-8"))) == []


def test_a_broken_link_is_seen() -> None:
    content = (
        "[a](nowhere) [b](dpbench/engines#nothing) [c](dpbench/engines#on-a-gpu) [d](#nothing)"
    )
    found = list(broken_links(ROOT / "README.md", content))
    assert found == ["nowhere", "dpbench/engines#nothing", "#nothing"]


def test_the_tests_are_run_as_ci_runs_them() -> None:
    (command,) = re.findall(r"-m (pytest -n .*)", read())
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f'"$python" -m {command}\n' in run
    assert f"python -m {command} " in read("dpbench")


def blocks(language: str, content: str) -> list[str]:
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", content, re.DOTALL | re.MULTILINE)
    return [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        for indent, of, block in found
        if of == language
    ]


def commands(content: str) -> Iterator[str]:
    """Calls of dpbench: in shell blocks and transcripts, and those with flags in prose."""
    lines = "\n".join(blocks("sh", content)).replace("\\\n", " ").splitlines()
    yield from (line for line in lines if re.match(r"(\S*/)?dpbench |python -m dpbench\.", line))
    yield from re.findall(r"^\$ (dpbench .*)", content, flags=re.MULTILINE)
    prose = re.sub(r"```.*?```", "", content, flags=re.DOTALL)
    yield from (
        call for call in re.findall(r"`(dpbench [^`]* --[^`]*)`", prose) if "help" not in call
    )


EVERY_COMMAND = [
    (named(page), line) for page in PAGES for line in commands(page.read_text(encoding="utf-8"))
]


def test_the_commands_are_found() -> None:
    assert len(EVERY_COMMAND) > 40
    called = {shlex.split(line, comments=True)[1] for _, line in EVERY_COMMAND}
    assert called >= set(__main__.COMMANDS)


@pytest.mark.parametrize(("page", "line"), EVERY_COMMAND)
def test_commands_parse(page: str, line: str) -> None:
    _, name, *arguments = shlex.split(line.replace("python -m dpbench.", "dpbench "), comments=True)
    parser = importlib.import_module(f"dpbench.{name}")._parser("dpbench")
    assert isinstance(parser.parse_args(arguments), argparse.Namespace), page


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_scripts_are_there(page: Path) -> None:
    called = re.findall(r"python (bench/[\w/]+\.py)", page.read_text(encoding="utf-8"))
    assert [script for script in called if not (ROOT / script).is_file()] == []


EVERY_CODE = [
    pytest.param(block, id=f"{named(page)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks("python", page.read_text(encoding="utf-8")))
]
LONG = ("run_sweep", "time_steps", "run_audit")  # seconds and more, and tested elsewhere


def runs(block: str) -> bool:
    """Whether it is a program, and one that trains nothing."""
    is_program = re.match(r"import (pandas|dpbench)\n", block) is not None
    return is_program and not any(name in block for name in LONG)


@pytest.mark.parametrize("block", EVERY_CODE)
def test_code_calls_the_api_as_it_is(block: str) -> None:
    for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
        if ast.unparse(call.func).startswith("dpbench."):
            function = getattr(dpbench, ast.unparse(call.func).removeprefix("dpbench."))
            keywords = {str(each.arg): each.value for each in call.keywords}
            inspect.signature(function).bind(*call.args, **keywords)


@pytest.mark.parametrize("block", [each for each in EVERY_CODE if runs(str(each.values[0]))])
def test_code_that_reads_results_runs(
    block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(block, "README", "exec"), {})  # noqa: S102  # our own page
    assert capsys.readouterr().out


def test_each_example_of_a_plug_in_is_one_file(tmp_path: Path) -> None:
    """A sweep finds all of them by their names, in a copy of the package."""
    shutil.copytree(ROOT / "dpbench", tmp_path / "dpbench")
    examples = re.findall(r"```python\n# (dpbench/\S+)\n(.*?)```", read("dpbench"), re.DOTALL)
    for path, content in examples:
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(content, encoding="utf-8")
    command = (
        "--dataset stripes --optimizer rmsprop --clipping half --device cpu --no-timing --out mine"
    )
    code = (  # no engine of these trials is compiled
        "import sys; import here; from dpbench import engines, sweep; engines.prepare = int\n"
        "with here.trials_here(), here.blank_figures(): sys.exit(sweep.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (private,) = store.finished(tmp_path / "mine") - baselines(tmp_path / "mine")
    row = store.read_trials(tmp_path / "mine").set_index("trial_id").loc[private].iloc[-1]
    assert (row["dataset"], row["model"]) == ("stripes", "softmax-regression")
    assert (row["optimizer"], row["clipping"]) == ("rmsprop", "half")
    assert row["test_accuracy"] > 0.9
    points = pd.read_csv(tmp_path / "mine" / "noise_accuracy.csv")
    assert points["test_accuracy"].tolist() == [row["test_accuracy"]]


def baselines(root: Path) -> set[str]:
    trials = store.read_trials(root)
    return set(trials[trials["noise_multiplier"].isna()]["trial_id"])


def test_the_sweep_file_is_one() -> None:
    (block,) = blocks("toml", read("dpbench", "execution"))
    grids = [each.with_defaults("mnist") for each in sweep_file.parse(block).grids({})]
    trials = grid_trials.trials(grids, "mnist")
    rates = {trial.batch_size: trial.learning_rate for trial in trials if trial.private}
    assert rates == {256: 0.5, 1024: 2.0}


def test_what_the_commands_print_is_what_they_print(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = (quick / "printed.txt").read_text(encoding="utf-8").splitlines()
    (shown,) = (block for block in blocks("", read()) if "trials finished" in block)
    assert shown.splitlines() == printed[: len(shown.splitlines())]

    page = read("dpbench", "privacy")
    ((line, shown),) = re.findall(r"^\$ dpbench epsilon (.*?)\n(.*?)^```", page, re.DOTALL | re.M)
    assert epsilon.main(shlex.split(line)) == 0
    assert capsys.readouterr().out.startswith(shown)


# Numbers


def test_the_steps_of_the_readme_are_those_measured(timings: pd.DataFrame) -> None:
    at = timings[timings["batch_size"] == 256]
    ratio = step_overhead.overhead(at).set_index("engine")["overhead_ratio"]
    assert (
        f"{ratio['fused']:.2f} times as long as the non-private step by `fused`, "
        f"{ratio['bookkeeping']:.2f} by `bookkeeping` and {ratio['opacus-hooks']:.2f} by "
        "`opacus-hooks`"
    ) in flat(read())


def test_the_timings_are_printed_as_they_were_measured(timings: pd.DataFrame) -> None:
    at = timings[timings["batch_size"] == 256]
    lines = timing_table.as_text(at).splitlines()
    assert len(lines) > 10
    page = read("dpbench", "measurement")
    assert [line for line in lines if line not in page] == []


def test_what_the_tutorials_reader_pays_is_what_was_measured(timings: pd.DataFrame) -> None:
    page = flat(read("dpbench", "measurement"))
    for line in timing_table.as_text(timings).splitlines():
        if line.startswith("opacus-as-shipped takes"):
            assert line.rstrip(".") in page


def test_the_race_is_printed_as_it_was_run() -> None:
    raced = json.loads((PEERS / "race.json").read_text(encoding="utf-8"))
    fields = [each.name for each in dataclasses.fields(race.Result)]
    results = [race.Result(**{name: row[name] for name in fields}) for row in raced["rows"]]
    assert race.text(results, raced["trials"], raced["epochs"]) in read("results", "peers")


def test_the_ratios_of_further_races_are_said() -> None:
    page = flat(read("results", "peers"))
    said = []
    for path in sorted(PEERS.glob("race-*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        *first, last = (f"{row['times_as_fast']:.2f}" for row in rows)
        said.append(f"{', '.join(first)} and {last}")
    assert len(said) == 2
    assert f"the four ratios were {'; '.join(said)}." in page
    every = [json.loads(path.read_text(encoding="utf-8")) for path in PEERS.glob("race*.json")]
    theirs, ours = (
        sum(raced["rows"][2][name] for raced in every)
        for name in ("tutorial_seconds", "sweep_seconds")
    )
    assert f"is {theirs / ours:.2f} over all three runs" in page


def test_the_steps_of_peers_are_those_measured() -> None:
    measured = json.loads((PEERS / "step.json").read_text(encoding="utf-8"))["rows"]
    page = read("results", "peers")
    for name in {row["step"] for row in measured}:
        ratios = [f"{row['ratio']:.2f}" for row in measured if row["step"] == name]
        assert f"| {name} | {' | '.join(ratios)} |" in page


def test_the_timings_on_a_gpu_are_those_measured() -> None:
    summary = step_overhead.overhead(store.read_timings(CUDA)).sort_values("batch_size")
    engines = set(summary["engine"]) - {"non-private"}
    assert len(engines) == 5
    page = read("results", "mnist-cuda")
    for name in engines:
        rows = summary[summary["engine"] == name].to_dict("records")
        ends = ("overhead_ratio", "overhead_ratio_low", "overhead_ratio_high")
        ratios = [quantities.ratio(*(row[end] for end in ends))[0] for row in rows]
        assert f"| {name} | {' | '.join(ratios)} |" in page


def test_the_launches_are_those_counted() -> None:
    found = json.loads((CUDA / "launches.json").read_text(encoding="utf-8"))
    page = read("results", "mnist-cuda")
    assert launches.text(found["rows"]) in page
    took = {
        (row["step"], row["batch_size"]): row["one_by_one"]["milliseconds"] for row in found["rows"]
    }
    first, second, third = (
        f"{took['opacus-hooks', size] / took['non-private', size]:.1f}" for size in (64, 256, 1024)
    )
    assert f"Opacus' hooks take {first}, {second} and {third} times as long" in flat(page)


def test_the_stacks_are_printed_as_they_were_run() -> None:
    found = json.loads((PEERS / "stacks.json").read_text(encoding="utf-8"))
    names = {each.name for each in dataclasses.fields(stacks.Alone)}
    alone = [
        stacks.Alone(**{key: value for key, value in row.items() if key in names})
        for row in found["alone"]
    ]
    swept = [stacks.Swept(**row) for row in found["stacked"]]
    assert stacks.text(swept, alone) in read("results", "peers")
    assert stacks.times_as_fast(swept, alone)[stacks.TUTORIAL] >= stacks.WANTED


def test_the_efficiency_is_the_one_measured() -> None:
    measured_json = RESULTS / "efficiency" / "efficiency.json"
    found = json.loads(measured_json.read_text(encoding="utf-8"))
    fields = ("trials", "workers", "wall_seconds", "train_seconds")
    measured = efficiency.Measured(**{name: found[name] for name in fields})
    assert str(measured) in read("results", "efficiency")
    assert measured.share >= efficiency.WANTED


def test_the_saturation_is_the_one_measured() -> None:
    measured_json = RESULTS / "saturation" / "saturation.json"
    measured = json.loads(measured_json.read_text(encoding="utf-8"))
    page = read("results", "saturation")
    assert f"{measured['trials']:,} trials" in flat(page)
    assert f"{measured['wall_milliseconds_per_trial']:.1f} ms a trial" in flat(page)
    computes = f"{measured['driver_cpu_milliseconds_per_trial']:.1f}"
    assert f"of which the driver computes {computes}" in flat(page)
    assert f"The driver computes {computes} ms a trial" in flat(read("dpbench", "execution"))
    for row in measured["saturation"]:
        shortest = row["shortest_trial_milliseconds"] / 1000
        assert f"| {row['places']:,} | {shortest:.1f} s |" in page


def test_the_audits_are_those_of_seed_0() -> None:
    """Claims are today's accountant's; `seeds.json` has the older claims of PRV."""
    found = json.loads((RESULTS / "audit" / "seeds.json").read_text(encoding="utf-8"))
    audits = {(row["engine"], row["broken"]): row for row in found["audits"] if row["seed"] == 0}
    shown = re.findall(
        r"^(?:\$ dpbench audit.*?(?:--break (\S+))?|([a-z-]+) +([\d.]+) +([\d.]+) +([\d.]+)"
        r" +([\d.]+) +(\d+)/768 .*)$",
        read("dpbench", "auditing"),
        flags=re.MULTILINE,
    )
    planted, audited = None, 0
    for defect, engine, claimed, *bounds, right in shown:
        if not engine:
            planted = defect or None
            continue
        batch_size = default_batch_size(512, planted)
        claim = Claim(engine=engine, broken=planted, batch_size=batch_size)
        spent = accounting.spent(
            noise_multiplier=claim.noise_multiplier,
            sample_rate=claim.sample_rate,
            steps=claim.steps,
            delta=claim.delta,
        )
        assert claimed == f"{spent.epsilon:.2f}"
        if row := audits.get((engine, planted)):
            names = ("noise_bound", "family_bound", "any_bound")
            assert bounds == [f"{row[name]:.2f}" for name in names]
            assert int(right) == row["right"]
            audited += 1
    assert audited == 6
