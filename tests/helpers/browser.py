"""A headless Chromium for tests of pages, if the machine has one."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome import service

_BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--force-color-profile=srgb", "--window-size=1280,900",
)  # fmt: skip


@contextlib.contextmanager
def opened(profile: pathlib.Path) -> Iterator[webdriver.Chrome]:
    """Start a browser that keeps a record of its console and its requests; skip the test if there is none.

    Parameters
    ----------
    profile
        Directory for its files, which does not exist yet.
    """
    binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip(
            "PAGES ARE NOT TESTED: no chromium and chromedriver (apt-get install chromium chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=service.Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def console(chrome: webdriver.Chrome) -> list[dict[str, Any]]:
    """Return what was written to the console since the last call."""
    return list(chrome.get_log("browser"))  # type: ignore[no-untyped-call]


def prefer(chrome: webdriver.Chrome, scheme: str) -> None:
    """Choose the colour scheme, dark or light."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def resize(chrome: webdriver.Chrome, width: int) -> None:
    """Give the window another width, pixels."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
