"""Makes `made_up_sweeps` importable: the tests run in importlib mode, which puts no test folder on the path."""

import importlib.util
import sys
from pathlib import Path

if "made_up_sweeps" not in sys.modules:
    spec = importlib.util.spec_from_file_location("made_up_sweeps", Path(__file__).parent / "made_up_sweeps.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["made_up_sweeps"] = module
    spec.loader.exec_module(module)
