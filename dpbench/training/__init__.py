"""Training of one trial or of a stack of trials: the loop and the evaluation."""
