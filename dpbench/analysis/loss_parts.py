"""What accuracy private arms lose: to clipping, and to the noise on top of it."""

import pandas as pd

from dpbench.analysis import scores
from dpbench.analysis.frontier import best_of_each
from dpbench.analysis.statistics import difference
from dpbench.analysis.trial_rows import ARM, final, private, unclipped


def loss_split(trials: pd.DataFrame) -> pd.DataFrame:
    """What accuracy each private arm with noise loses, and to what: one row an arm's last epoch.

    Columns: those of the arm; `lost`, its accuracy below that of the non-private arm of the same
    data, model, optimizer, batch size, sampling and epochs (of the best learning rate, where there
    are several, by `chosen_by`); `lost_to_clipping`, what the same arm without noise loses, too;
    `lost_to_noise`, the rest. Each is a `Difference`, paired over the seeds that all three have.
    Arms without both controls are left out.
    """
    rows = trials if "metric" in trials else scores.scored(trials)
    scored = ["test_score", "validation_score"]
    finals = final(rows)[[*ARM, "seed", "test_accuracy", *scored]]
    clips = private(finals)
    noisy, clip_only = clips[clips["noise_multiplier"] > 0], clips[clips["noise_multiplier"] == 0]
    baseline = unclipped(finals)
    shared = ["dataset", "model", "sampling", "batch_size", "optimizer", "momentum", "epochs"]
    shared.append("validation_examples")
    rates = [*shared, "learning_rate", "engine"]
    means = baseline.groupby(rates, dropna=False)[scored].mean().reset_index()
    baseline = baseline.merge(best_of_each(means, shared)[rates])
    same_clip = [name for name in ARM if name != "noise_multiplier"]
    rows = noisy.merge(
        clip_only[[*same_clip, "seed", "test_accuracy"]],
        on=[*same_clip, "seed"],
        suffixes=("", "_clip_only"),
    ).merge(
        baseline[[*shared, "seed", "test_accuracy"]],
        on=[*shared, "seed"],
        suffixes=("", "_non_private"),
    )
    parts = {
        "lost": rows["test_accuracy_non_private"] - rows["test_accuracy"],
        "lost_to_clipping": rows["test_accuracy_non_private"] - rows["test_accuracy_clip_only"],
        "lost_to_noise": rows["test_accuracy_clip_only"] - rows["test_accuracy"],
    }
    by_arm = rows.assign(**parts).groupby(ARM, dropna=False, sort=False)
    split = by_arm.size().reset_index()[ARM]
    for part in parts:
        seen = by_arm[part].agg(["mean", "std", "size"])
        split[part] = [difference(*each) for each in seen.itertuples(index=False)]
    return split
