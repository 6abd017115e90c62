"""The tables of reference stores, of a small store whose accuracies are known."""

from dataclasses import replace
from pathlib import Path

import pytest
import stores
from factories import make_trial

from bench import published_again, readme, reference
from dpbench import store
from dpbench.analysis import trial_rows
from dpbench.errors import BadInput
from dpbench.reporting import published

TEMPLATE = "".join(
    f"Of {name}:\n<!-- {name} -->\n<!-- end of {name} -->\n"
    for name in ("asked", "best", "answers", "columns")
)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stores.several_models(tmp_path_factory.mktemp("reference"), confirm=3)


def test_what_was_asked_is_held_against_confirmed_means(several: Path) -> None:
    table = reference.asked(reference.reached(several))
    # tutorial-cnn, confirmed: 97.25 at 3, and so much more or less as a log10 of epsilon has it
    assert "| tutorial-cnn | 1 | 96.6 | 96.77 ± 0.25 % (3 seeds) | yes |" in table
    assert "| tutorial-cnn | 3 | 97.5 | 97.25 ± 0.25 % (3 seeds) | no, 0.25 points below |" in table
    assert "seeds that chose" not in table
    alone = [each for each in reference.reached(several) if each.model == "tutorial-cnn"]
    assert "| tanh-cnn | 3 | 97.8 | not trained | - |" in reference.asked(alone)


def test_the_best_setting_is_that_of_validation(several: Path) -> None:
    found = reference.best(reference.reached(several))
    assert found.index("tutorial-cnn") < found.index("tanh-cnn") < found.index("scatter-linear")
    assert "**tanh-cnn**: 10 private settings tried in 25 trials; not private 99.10 %" in found
    assert "| 2 | 97.47 ± 0.25 % (3 seeds) | 1.980 | 2 | 1 | 64 | 0.5 | 0 | 1 |" in found


def test_the_tables_are_put_where_the_comments_are(several: Path) -> None:
    page = several / "README.md"
    page.write_text(TEMPLATE, encoding="utf-8")
    assert reference.main([str(several), "--write"]) == 0
    tables = reference.tables(several)
    readme.write(page, tables)  # they replace themselves
    content = page.read_text(encoding="utf-8")
    assert content.count("| tanh-cnn | 3 |") == 1
    assert content.count("<!-- end of columns -->") == 1
    page.write_text(TEMPLATE.replace("<!-- end of best -->", ""), encoding="utf-8")
    with pytest.raises(BadInput, match=r"has not the comments <!-- best -->"):
        readme.write(page, tables)


def test_a_store_without_private_trials_says_so(tmp_path: Path) -> None:
    store.create(tmp_path)
    stores.add(tmp_path, make_trial("non-private"), stores.seen(1, 0.9))
    with pytest.raises(BadInput, match="no private trial"):
        reference.reached(tmp_path)


def test_published_results_stand_beside_ours_at_their_setting(tmp_path: Path) -> None:
    result = next(each for each in published.results() if each.name == "Opacus B")
    trial = make_trial(
        "fused",
        dataset="mnist",
        noise_multiplier=result.noise_multiplier,
        max_grad_norm=result.max_grad_norm,
        batch_size=result.batch_size,
        learning_rate=result.learning_rate,
    )
    store.create(tmp_path)
    for seed, accuracy in enumerate((0.966, 0.968)):
        seen = replace(stores.seen(1, accuracy, 2.3), steps=result.steps)
        stores.add(tmp_path, replace(trial, seed=seed), seen)
    other = replace(trial, max_grad_norm=0.5)  # which is none of the published settings
    stores.add(tmp_path, other, replace(stores.seen(1, 0.5, 2.3), steps=result.steps))
    finals = trial_rows.final(store.read_trials(tmp_path))
    # the error of the difference is (0.21^2 / 10 + 0.1414^2 / 2)^0.5 = 0.120
    line = "| Opacus B | 96.78 ± 0.21 | 96.70 ± 0.14 | -0.08 | -0.7 | -0.6 | 2.91 | 2.296 |"
    assert line in published_again.table(finals)
    assert "| Opacus C | 94.63 ± 0.34 | - | - | - | - | 1.16 | 0.834 |" in published_again.table(
        finals
    )
    assert "| 15000 | 2 | shuffled batches |" in published_again.settings(finals)
