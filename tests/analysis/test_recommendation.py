"""The answers hold the frame's numbers, and their words say what they do not."""

import math

import pandas as pd
import pytest
from factories import frame, make_trial, timings

from dpbench.analysis import comparability, recommendation, scores
from dpbench.analysis.answers import Answer
from dpbench.analysis.price import Price
from dpbench.privacy import selection
from dpbench.privacy.guarantee import rounded_up
from dpbench.reporting import answer_caveats, quantities, terminal, text
from dpbench.trial import Trial


def rows(seeds: int, *, validated: bool = False) -> pd.DataFrame:
    measured: list[tuple[Trial, int, float, float | None]] = []
    for seed in range(seeds):
        measured.append((make_trial("non-private", seed=seed), 1, 0.95, None))
        for clip, accuracy in ((1.0, 0.90), (2.0, 0.86)):
            trial = make_trial(max_grad_norm=clip, seed=seed)
            measured.append((trial, 1, accuracy + 0.01 * seed, 2.5))
    made = frame(*measured).assign(steps=22, sample_rate=64 / 1437)
    return made.assign(validation_accuracy=1 - made["test_accuracy"]) if validated else made


NO_TIMINGS = timings([1.0]).iloc[:0]


def at_three(trials: pd.DataFrame, timed: pd.DataFrame = NO_TIMINGS) -> Answer:
    return recommendation.answers(trials, timed)[1]


def test_the_answer_with_its_interval_and_the_distance_to_the_next() -> None:
    below, answer, _ = recommendation.answers(rows(3), NO_TIMINGS)
    assert below.best is None
    assert "there is no answer: no epoch of a private trial" in text.sentence(below)
    # t(0.975, 2) x 0.01 / sqrt(3) = 0.0248
    assert text.sentence(answer) == (
        "With epsilon at most 3 (it spends 2.5 at delta 1e-5, by PLD), the best setting is "
        "noise multiplier 1, clipping norm 1, batch size 64, learning rate 0.1 and 1 epoch: it "
        "reaches 91.00 ± 2.48 % (3 seeds), loses 4.00 "
        "points (1.52 to 6.48) against the best non-private setting, and what it costs in time was "
        "not measured."
    )
    assert list(text.remarks(answer))[:2] == [
        "It is the best of 2 arms on the test set, and its accuracy is that of the same seeds, "
        "which flatters it (--confirm N runs it again on N others).",
        "On the test set it is 4.00 points (4.00 to 4.00) more accurate than the next (noise "
        "multiplier 1, clipping norm 2, batch size 64, learning rate 0.1 and 1 epoch), paired by "
        "seed.",
    ]
    assert answer.best is not None
    for said in (
        *("N = 1,437 examples", "expected size 64", "22 steps", "clipping norm 1"),
        *("adding or removing one example", "Delta is below 1/N", "accounted by PLD"),
        *("chosen among at least 2 private ones", "does not pay for the choice"),
        "0.1307 and 0.3081, which come from another dataset",
    ):
        assert said in answer.best.statement


def test_what_a_users_data_computes_from_the_examples_is_not_covered() -> None:
    best = at_three(rows(1).assign(dataset="mine.py:load")).best
    assert best is not None
    assert "Constants that mine.py:load computes from the training examples" in best.statement


def run(steps: int, noise: float = 1.0, rate: float = 64 / 1437) -> selection.Run:
    return selection.Run(noise_multiplier=noise, sample_rate=rate, steps=steps)


def spent(*runs: selection.Run) -> float:
    return selection.epsilon_of_best(runs, delta=1e-5)


def price_of(answer: Answer) -> Price:
    assert answer.best is not None
    assert answer.best.price is not None
    return answer.best.price


def test_choosing_is_charged_for_and_says_what_is_composed() -> None:
    # the best is that of the means over three seeds, so one run is all of their steps
    both, alone = spent(run(3 * 22), run(3 * 22)), spent(run(22), run(22))
    price = price_of(at_three(rows(3)))
    assert (price.settings, price.trainings, price.seeds) == (2, 6, 3)
    assert price.epsilon == pytest.approx(both)
    assert price.epsilon_of_one_seed == pytest.approx(alone)
    *_, said = text.remarks(at_three(rows(3)))
    assert said == (
        "Its epsilon of 2.5 is that of one training, but 2 private settings in 6 trainings have "
        "seen this data. No such bound holds for the best of a fixed grid. The best of a random "
        "number of these settings drawn at random, 2 on average, spends "
        f"{rounded_up(both, 2)} (Papernot and Steinke 2022), which does not protect the "
        "examples that it is chosen by. A setting is "
        "there all its seeds, up to 3, composed, for it is judged by their mean; with one seed "
        f"each it would be {rounded_up(alone, 2)}."
    )


def test_choosing_among_shuffled_runs_is_charged_for_every_epoch_of_every_seed() -> None:
    trials = rows(3)
    private = trials["noise_multiplier"].notna()
    trials.loc[private, "sampling"] = "shuffle"
    assert price_of(at_three(trials)).epsilon == pytest.approx(spent(*[run(3, rate=1.0)] * 2))


def test_choosing_is_charged_at_the_least_private_of_the_runs() -> None:
    trials = rows(3)
    quiet = trials["max_grad_norm"] == 2.0
    trials.loc[quiet, "noise_multiplier"] = 2.0
    assert price_of(at_three(trials)).epsilon == pytest.approx(spent(*[run(3 * 22)] * 2))


def test_choosing_has_no_price_where_the_steps_were_not_counted() -> None:
    best = at_three(rows(3).assign(sample_rate=float("nan"))).best
    assert best is not None
    assert best.price is None


def test_every_private_training_on_the_data_counts_in_the_price() -> None:
    """Also those over the epsilon, of another held-out set, failed, or of an earlier tuning."""
    ran = {"steps": 22, "sample_rate": 64 / 1437}
    main = rows(1)
    loud = frame((make_trial(noise_multiplier=0.5), 1, 0.9, 9.0)).assign(**ran)
    held_out = make_trial(noise_multiplier=3.0, validation_examples=100)
    held = frame((held_out, 1, 0.9, 0.5)).assign(steps=21, sample_rate=64 / 1337)
    nan = make_trial(max_grad_norm=5.0, epochs=4)
    failed = frame((nan, 3, float("nan"), None)).assign(status="failed")
    never = frame((make_trial(max_grad_norm=6.0), 0, float("nan"), None)).assign(status="crashed")
    clip_only = frame((make_trial(noise_multiplier=0.0), 1, 0.9, math.inf)).assign(**ran)
    shuffled = frame((make_trial(sampling="shuffle"), 1, 0.9, 3.0)).assign(**ran)
    every = pd.concat([main, loud, held, failed, never, clip_only, shuffled])
    tuning = pd.concat([main, frame((make_trial(learning_rate=7.0), 1, 0.9, 2.5)).assign(**ran)])
    answer = recommendation.answers(main, NO_TIMINGS, at=[3], every=every, tuning=tuning)[0]
    price = price_of(answer)
    assert price.settings == 2 + 1 + 1 + 1 + 1
    assert (price.trainings, price.tuned) == (6, 1)
    assert (price.without_noise, price.other_neighbours, price.uncounted) == (1, 1, 0)
    runs = [run(22, 0.5), run(3 * 22), run(21, 3.0, 64 / 1337)]
    assert price.epsilon == pytest.approx(spent(*runs, *[runs[0]] * 3))
    said = list(text.remarks(answer))[-1]
    assert "6 private settings in 6 trainings have seen this data, 1 of them in an earlier" in said
    assert said.endswith(
        "Not in that number: 1 that clip without noise and 1 whose epsilon is for other neighbours."
    )


def test_fresh_seeds_are_reported_and_the_grids_choose() -> None:
    grid = rows(3)
    again = rows(9)
    fresh = again[again["seed"] >= 6].copy()
    private = fresh["engine"] == "opacus-hooks"
    fresh.loc[private, "test_accuracy"] -= 0.08
    stale = again[again["seed"] == 1]  # has chosen, so it confirms nothing
    (answer,) = recommendation.answers(
        grid, NO_TIMINGS, at=[3], confirmations=pd.concat([fresh, stale])
    )
    best = answer.best
    assert best is not None
    assert best.confirmed_on == (6, 7, 8)
    assert best.accuracy.mean == pytest.approx(0.90 + 0.07 - 0.08)
    assert best.accuracy_when_chosen.mean == pytest.approx(0.91)
    assert best.loss is not None
    assert best.loss.mean == pytest.approx(0.95 - 0.89)
    assert best.loss.seeds == 3
    first, second = answer_caveats.of_choice([answer])
    assert first.startswith("Confirmed accuracies and losses are those of seeds 6, 7, 8, which")
    assert second.startswith("A noise multiplier")
    assert "it reaches 89.00 ± 2.48 % (3 seeds) on seeds that did not choose it, loses" in (
        text.sentence(answer)
    )
    assert next(iter(text.remarks(answer))) == (
        "It is the best of 2 arms on the test set. Its accuracy is that of seeds 6, 7, 8, which "
        "had no part in the choice; those that had give 91.00 ± 2.48 % (3 seeds)."
    )
    baseline = recommendation.baseline(grid, fresh)
    assert baseline is not None
    assert baseline.confirmed_on == (6, 7, 8)


def test_a_choice_pays_for_its_confirmation_whichever_setting_is_chosen() -> None:
    grid, again = rows(2), rows(5)
    fresh = again[(again["seed"] >= 2) & (again["max_grad_norm"] == 1.0)]
    every = pd.concat([grid, fresh])
    (answer,) = recommendation.answers(grid, NO_TIMINGS, at=[3], confirmations=fresh, every=every)
    price = price_of(answer)
    assert (price.settings, price.trainings, price.seeds) == (2, 4 + 3, 2 + 3)
    assert price.epsilon == pytest.approx(spent(*[run(5 * 22)] * 2))
    assert price.epsilon_of_one_seed == pytest.approx(spent(*[run(22)] * 2))


def test_the_confirmation_of_another_setting_does_not_mix_in() -> None:
    others = rows(9)
    others = others[(others["seed"] >= 6) & (others["max_grad_norm"] == 2.0)]
    (answer,) = recommendation.answers(rows(3), NO_TIMINGS, at=[3], confirmations=others)
    assert answer.best is not None
    assert answer.best.confirmed_on == ()
    assert answer.best.accuracy.mean == pytest.approx(0.91)
    assert "--confirm N" in next(iter(answer_caveats.of_choice([answer])))


def losing(*losses: float) -> Answer:
    """Of seeds that are so much less accurate than the non-private ones."""
    measured: list[tuple[Trial, int, float, float | None]] = []
    for seed, lost in enumerate(losses):
        measured.append((make_trial("non-private", seed=seed), 1, 0.8, None))
        measured.append((make_trial(seed=seed), 1, 0.8 - lost, 2.5))
    return at_three(frame(*measured))


def test_a_gain_over_the_baseline_is_never_told_as_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for losses, verdict, said, cell in (
        ((-0.03,), "not-told-apart", "setting by one seed (3.00 points more accurate)", "no clear"),
        ((0.01, 0.02, -0.01), "not-told-apart", "setting (0.67 points (-3.13 to 4.46) less", "no"),
        (
            (-0.03, -0.031, -0.029),
            "beats",
            "loses nothing: it is 3.00 points (2.75 to 3.25)",
            "non",
        ),
        ((0.03, 0.031, 0.029), "loses", "loses 3.00 points (2.75 to 3.25)", "3.00"),
        ((0.03,), "loses", "loses 3.00 points against", "3.00"),
        ((0.3, 0.5), "not-told-apart", "(40.00 points less accurate)", "no clear"),
    ):
        answer = losing(*losses)
        assert answer.best is not None
        assert answer.best.verdict == verdict, losses
        assert said in text.sentence(answer), losses
        assert "loses -" not in text.sentence(answer)
        assert f"  {cell}" in terminal.table([answer]).splitlines()[-1], losses


def test_why_the_baseline_is_weak_is_said_as_far_as_trials_show() -> None:
    one = losing(-0.03, -0.031, -0.029)
    trials = pd.concat(
        frame((make_trial("non-private", learning_rate=rate, epochs=2), epoch, accuracy, None))
        for rate, epoch, accuracy in (
            (0.1, 1, 0.7),
            (0.1, 2, 0.8),
            (0.2, 1, 0.9),
            (0.2, 2, 0.85),
            (0.4, 1, 0.5),
            (0.4, 2, 0.6),
        )
    )
    alone = trials[trials["learning_rate"] == 0.1]
    assert "tried at learning rate 0.1 alone" in text.sentence(one, recommendation.baseline(alone))
    assert "its accuracy was higher at epoch 1" in text.sentence(
        one, recommendation.baseline(trials)
    )
    rising = trials[(trials["learning_rate"] != 0.2)]
    assert "0.1, 0.4 it is best at the last" in text.sentence(one, recommendation.baseline(rising))


def test_no_interval_is_wider_than_the_scale() -> None:
    def seen(*accuracies: float) -> str:
        trials = [(make_trial("non-private", seed=i), 1, a, None) for i, a in enumerate(accuracies)]
        return text.baseline(recommendation.baseline(frame(*trials)))

    assert "reaches 35.00 % (2 seeds from 22.22 to 47.78) with" in seen(0.4778, 0.2222)
    assert "reaches 98.67 % (97.23 to 100.00, 3 seeds) with" in seen(0.98, 0.99, 0.9901)
    assert "reaches 35.00 ± 6.35 % (2 seeds) with" in seen(0.345, 0.355)


def test_each_way_to_draw_batches_has_answers_of_its_own() -> None:
    shuffled = rows(3)
    shuffled.loc[shuffled["noise_multiplier"].notna(), "test_accuracy"] += 0.05
    shuffled = shuffled.assign(sampling="shuffle", accountant="gaussian")
    both = recommendation.answers(pd.concat([rows(3), shuffled]), NO_TIMINGS, at=[3])
    assert [(each.sampling, each.best and each.best.arms) for each in both] == [
        ("poisson", 2),
        ("shuffle", 2),
    ]
    first, second = map(text.sentence, both)
    assert first.startswith("With epsilon at most 3 (it spends 2.5 at delta 1e-5, by PLD)")
    assert second.startswith(
        "With shuffled batches and epsilon at most 3 (it spends 2.5 at delta 1e-5, "
        "by the exact Gaussian mechanism)"
    )
    statements = [answer.best.statement for answer in both if answer.best is not None]
    assert "adding or removing one example" in statements[0]
    assert "whose gradient is replaced by zero" in statements[1]
    assert any("the two do not compare" in note for note in answer_caveats.of_choice(both))
    assert [title.partition(";")[0] for title, _ in terminal.by_sampling(both)] == [
        "Poisson batches",
        "Shuffled batches",
    ]


def test_answers_are_at_the_epsilons_that_are_asked_and_rounding_excludes_none() -> None:
    rounded = 2.5 * (1 - 1e-12)
    fifty, rounded_answer = recommendation.answers(rows(1), NO_TIMINGS, at=[50, rounded])
    assert (fifty.epsilon_at_most, fifty.best is None) == (50, False)
    assert rounded_answer.best is not None
    (less,) = recommendation.answers(rows(1), NO_TIMINGS, at=[2.4999])
    assert less.best is None


def test_validation_chooses_and_test_is_reported() -> None:
    answer = at_three(rows(3, validated=True))
    assert answer.best is not None
    assert answer.best.setting.max_grad_norm == 2.0
    assert answer.best.accuracy.mean == pytest.approx(0.87)
    first, second, *_ = text.remarks(answer)
    assert first.startswith("It is the best of 2 arms on the validation set, and its accuracy")
    assert second.startswith("On the test set it is 4.00 points (4.00 to 4.00) less accurate than")
    assert "may be equally good" in second


def test_one_seed_has_no_interval_and_is_not_chosen_over_several() -> None:
    best = at_three(rows(1)).best
    assert best is not None
    assert math.isnan(best.accuracy.low)
    assert "it reaches 90.00 %" in text.sentence(at_three(rows(1)))
    lucky = frame((make_trial(max_grad_norm=3.0), 1, 0.99, 2.5))
    several = pd.concat([rows(3), lucky.assign(steps=22, sample_rate=64 / 1437)])
    best = at_three(comparability.comparable(several)).best
    assert best is not None
    assert best.setting.max_grad_norm == 1.0


def test_time_is_told_of_the_arms_own_engine_and_of_opacus() -> None:
    timed = timings([2.0, 2.1, 2.2]).assign(engine="opacus-hooks", batch_size=64)
    sentence = text.sentence(at_three(rows(2), timed))
    assert (
        "a step of that batch size takes 2.10 times as long as a non-private one by opacus-hooks "
        "(2.00 to 2.20)" in sentence
    )


def test_time_is_told_of_the_arms_own_model() -> None:
    own = timings([2.0, 2.1, 2.2]).assign(engine="opacus-hooks", batch_size=64)
    other = timings([5.0, 5.1, 5.2]).assign(engine="opacus-hooks", batch_size=64, model="mlp")
    sentence = text.sentence(at_three(rows(2), pd.concat([other, own])))
    assert "takes 2.10 times as long" in sentence
    assert "times as long" not in text.sentence(at_three(rows(2), other))


@pytest.mark.parametrize(
    "other", [{"engine": "fused"}, {"optimizer": "adam"}, {"clipping": "automatic"}]
)
def test_no_time_stands_for_the_time_of_another_step(other: dict[str, str]) -> None:
    """Timings are of SGD and flat clipping, and here by Opacus' hooks."""
    timed = timings([2.0, 2.1, 2.2]).assign(engine="opacus-hooks", batch_size=64)
    assert "times as long" in text.sentence(at_three(rows(2), timed))
    trials = rows(2)
    private = trials["noise_multiplier"].notna()
    trials.loc[private, list(other)] = list(other.values())
    answer = at_three(trials, timed)
    assert "what it costs in time was not measured" in text.sentence(answer)
    assert " x " not in terminal.table([answer])


def test_a_third_digit_tells_the_ends_of_an_interval_apart() -> None:
    assert quantities.ratio(0.4231, 0.4212, 0.4244) == ("0.423", "0.421", "0.424")
    assert quantities.ratio(0.4231, 0.4012, 0.4244) == ("0.42", "0.40", "0.42")


def test_the_baseline_says_how_it_was_chosen_and_on_what() -> None:
    trials = rows(3, validated=True)
    other = frame((make_trial("non-private", batch_size=128), 1, 0.99, None))
    assert text.baseline(recommendation.baseline(trials)).startswith(
        "On digits, the best non-private setting reaches 95.00 ± 0.00 %"
    )
    both = pd.concat([trials, other.assign(validation_accuracy=0.01)])
    assert "non-private setting, of 2 chosen on the validation set, reaches" in text.baseline(
        recommendation.baseline(both)
    )


def test_the_table_is_aligned_and_of_the_same_answers() -> None:
    table = terminal.table(recommendation.answers(rows(3), NO_TIMINGS)).splitlines()
    assert table[0].split()[:4] == ["epsilon", "spent", "accuracy", "%"]
    assert table[1].split()[:4] == ["1", "-", "no", "trial"]
    assert table[2].split()[:8] == ["3", "2.5", "91.00", "±", "2.48", "4.00", "±", "2.48"]
    assert max(map(len, table)) <= 80
    assert len(table) == 4


def test_a_narrow_terminal_has_what_is_reached_above_its_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = timings([2.0, 2.1, 2.2])
    trials = rows(3)
    trials.loc[trials["noise_multiplier"].notna(), "learning_rate"] = 0.03125
    answers = recommendation.answers(trials, timed)
    monkeypatch.setenv("COLUMNS", "100")
    wide = terminal.table(answers).splitlines()
    monkeypatch.setenv("COLUMNS", "80")
    above, beneath = (terminal.table(answers).splitlines()[at] for at in (slice(4), slice(4, 8)))
    assert 80 < max(map(len, wide)) <= 100
    assert max(map(len, [*above, *beneath])) <= 80
    assert above[0].split() == ["epsilon", "spent", "accuracy", "%", "points", "lost", "step"]
    for whole, reached, setting in zip(wide, above, beneath, strict=True):
        assert whole.split() == [*reached.split(), *setting.split()[1:]]
        assert reached.split()[0] == setting.split()[0]


def test_the_table_names_what_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    trials = rows(1)
    private = trials["noise_multiplier"].notna()
    trials.loc[private, ["model", "optimizer"]] = ["folder/mine.py:make", "adam"]
    head, *answers = terminal.table(recommendation.answers(trials, NO_TIMINGS)).splitlines()
    assert head.split()[-3:] == ["epochs", "model", "optimizer"]
    assert answers[0].split()[-2:] == ["-", "-"]
    assert answers[-1].split()[-2:] == ["mine.py:make", "adam"]


def test_where_targets_are_no_classes_the_loss_stands_for_the_accuracy() -> None:
    trials = rows(3)
    trials = trials.assign(test_loss=1 - trials["test_accuracy"], test_accuracy=math.nan)
    (answer,) = recommendation.answers(trials, NO_TIMINGS, at=[3])
    against = recommendation.baseline(trials)
    said = text.sentence(answer, against)
    assert "it reaches loss 0.09, and the best non-private setting reaches loss 0.05, and" in said
    assert "no non-private trial" not in said
    assert "no non-private trial" in text.sentence(answer)
    table = terminal.table([answer]).splitlines()
    assert table[0].split()[:4] == ["epsilon", "spent", "test", "loss"]
    assert table[1].split()[:3] == ["3", "2.5", "0.09"]


def test_points_lost_are_of_accuracy_where_another_metric_chose() -> None:
    trials = rows(3)
    trials = scores.scored(trials.assign(test_auroc=trials["test_accuracy"]), "auroc")
    (answer,) = recommendation.answers(trials, NO_TIMINGS, at=[3])
    said = text.sentence(answer, recommendation.baseline(trials))
    assert "it reaches AUROC 0.91 and accuracy 91.00 ± 2.48 % (3 seeds), loses 4.00 points of" in (
        said
    )


def test_what_is_not_the_default_is_named() -> None:
    trials = rows(1).assign(model="tanh-cnn", optimizer="adam")
    private = trials["noise_multiplier"].notna()
    trials.loc[private, "clipping"] = "automatic"
    answer = at_three(trials)
    named = "model tanh-cnn, noise multiplier 1, clipping norm 1, automatic clipping, batch size 64"
    assert f"{named}, optimizer adam, learning rate 0.1" in text.sentence(answer)
    found = text.baseline(recommendation.baseline(trials))
    assert "with model tanh-cnn, batch size 64, optimizer adam, learning rate 0.1" in found
