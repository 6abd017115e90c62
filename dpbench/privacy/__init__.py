"""Privacy: samplers, accountants, calibration, and the guarantee as a paragraph."""
