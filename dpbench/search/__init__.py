"""Settings drawn from ranges instead of a grid; which of them go on; what is asked next."""
