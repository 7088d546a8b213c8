"""A hub of datasets that does not answer."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def test_a_hub_that_does_not_answer_is_told_in_one_line(tmp_path: Path) -> None:
    nowhere = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    overrides = ["task=math", "task.path=owner/none", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "train.py", *overrides]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | nowhere,
        timeout=300,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert lines[0].startswith(
        "error: task.path=owner/none cannot be read: ConnectionError: "
        "http://127.0.0.1:9 does not answer (Connect"
    )
