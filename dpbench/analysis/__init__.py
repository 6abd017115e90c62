"""Statistics of trials and timings: frontier, recommendation, comparison. Frames in, frames out."""
