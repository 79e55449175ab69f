"""Sweeps over models, data sizes, seeds and learning rates.

Nothing is imported here: `plan`, `store` and `selection` work without torch, and `vitlab status` and `vitlab report`
must not wait for it.
"""
