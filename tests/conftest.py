"""Test-wide settings: one thread (test processes do not fight), slow tests on request, shared data or a skip."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest

# A busy machine is slow, not wrong: no deadlines. The same examples each time, so that a failure is a failure for all.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.name != "test_demo.py")  # it takes longest: others run beside it
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --run-slow, or scripts/test --all"))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of measured data beside the checkout; users do not have it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return folder


@pytest.fixture(scope="module")  # not for the session: its event loop would be in the way of the notebooks
def browser():
    """A real Chromium, without a window."""
    library = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install vitlab[dev]")
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(chromium).exists():
        pytest.skip("there is no chromium here: apt-get install --no-install-recommends chromium")
    with library.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium)
        yield opened
        opened.close()
