"""Frames of trials and timings -> what they say. No files, no drawing."""
