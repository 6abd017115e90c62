"""Sweeps: grids, plans, and trials on worker processes or on a dask cluster."""
