"""The words that `vitlab` understands, beside those of LightningCLI: their options, and whom they call.

A module here imports what its command needs inside the function that runs it: `vitlab --help` must not wait for torch.
"""
