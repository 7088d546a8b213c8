"""The report in a real browser."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.reports import five_seeds, report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("report"), five_seeds)


def test_the_report_in_a_real_browser(page: Path, browser: Any) -> None:
    browser.get((page / "report.html").as_uri())
    assert browser.title.startswith("Comparison of grpo, ")
    complete = "image => image.complete && image.naturalWidth > 400"
    assert browser.execute_script(f"return Array.from(document.images).every({complete})")
    resources = "performance.getEntriesByType('resource').map(entry => entry.name)"
    loaded = browser.execute_script(f"return {resources}")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []

    def column() -> list[str]:
        cells = browser.find_elements("css selector", "#verdict-table tbody th")
        return [re.sub(r"\s+", " ", cell.text) for cell in cells]

    before = column()
    browser.find_element("css selector", "#verdict-table thead th:nth-child(3)").click()
    rewards = browser.find_elements("css selector", "#verdict-table tbody td:nth-child(3)")
    values = [float(cell.get_attribute("data-value")) for cell in rewards]
    assert values == sorted(values) and sorted(before) == sorted(column()) and before != column()

    # A phone and a desk: tables scroll by themselves, the page does not.
    for width, height in ((390, 800), (1280, 1600)):
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        page_width = "document.documentElement.scrollWidth"
        view_width = "document.documentElement.clientWidth"
        assert browser.execute_script(f"return {page_width} <= {view_width}")
