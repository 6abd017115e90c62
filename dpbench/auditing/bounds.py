"""What the bounds of an audit assume, and what follows from them. Standard library only."""

# What each column assumes. The first is the tightest and assumes most.
BOUNDS = {
    "by noise": (
        "what DP-SGD with no more noise than was measured must spend. Assumes that a step adds up "
        "clipped gradients and Gaussian noise, independent of all before, equally strong in every "
        "parameter and step. Of this only that the steps' noise is uncorrelated is tested. Sees no "
        "defect of clipping or sampling."
    ),
    "by guesses": (
        "from how many coins were guessed rightly. Assumes that the run is as private as DP-SGD "
        "with some noise, however it comes about. Above the claim, it refutes the claim's whole "
        "privacy curve, at some delta, whatever the step is."
    ),
    "any mechanism": "from the same guesses. Assumes nothing about the step.",
}
VERDICT = (
    "A claim is refuted where a bound exceeds it, or where the noise of two steps is correlated. "
    "All of this holds together with the confidence given: each of the two guess bounds has "
    "49.8 % of the allowed error, the bound by noise and the test of correlation 0.2 % each."
)
THREAT_MODEL = (
    "white box. The adversary chose the examples, the initial weights and the "
    "learning rate and sees every iterate, but sees no coin, no batch and no noise."
)
