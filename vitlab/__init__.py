"""vitlab: for this task and this much data, a ViT or a CNN?

Nothing heavy is imported here: `vitlab --help`, `status` and `report` must not wait for torch.
"""

__version__ = "0.1.0"
