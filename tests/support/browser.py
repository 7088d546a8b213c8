"""A real headless browser for tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1600",
]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A selenium driver of Chromium with a fresh profile and no cache; skips without a browser."""
    programs = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    program = next(filter(None, programs), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        missing = "chromedriver" if program else "chromium"
        packages = "Debian: chromium and chromium-driver"
        pytest.skip(f"needs a browser: no {missing} on PATH ({packages})")
    reason = "needs selenium: pip install selenium"
    webdriver = pytest.importorskip("selenium.webdriver", reason=reason)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'browser'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()
