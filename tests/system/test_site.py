"""The documentation site builds without a warning and loads nothing from a network."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.support.pages import PAGES


def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = {
        str(path.relative_to(tmp_path).with_suffix(".md")) for path in tmp_path.rglob("*.html")
    }
    assert set(PAGES) <= built
    sources = r"<(?:script|img|iframe|source)\b[^>]*?src=\"?([^\s\">]+)"
    links = r"<link\b[^>]*?href=\"?([^\s\">]+)"
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(f"{sources}|{links}", page.read_text())
        assert not [url for pair in loaded for url in pair if url.startswith(("http", "//"))], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text()), style
    api = (tmp_path / "api" / "algorithms.html").read_text()
    assert "asym_lightning.algorithms.advantages.BetaFamily" in api and ":class:" not in api
