"""Privacy: samplers, accountants, and the guarantee in words."""
