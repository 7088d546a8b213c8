"""The doctor as a command."""

import subprocess
import sys

from tests.support import ROOT, preloaded


def test_this_machine_is_fit_and_the_doctor_says_so() -> None:
    doctor = preloaded.command(["-m", "asym_lightning.doctor"])
    status, output = doctor.wait(200), doctor.output
    assert status == 0, output
    lines = output.splitlines()
    assert lines.pop() == "all is ok" and all(line.startswith("ok ") for line in lines), output
    names = [line.split()[1] for line in lines]
    assert names[:2] == ["python", "versions"]
    assert names[-3:] == ["jail", "engine", "weight"]
    assert "memory" in names
    assert "torch 2.1" in lines[1] and "vllm" in lines[1]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv[1:] = ['--help']\n"
        "try:\n"
        "    runpy.run_module('asym_lightning.doctor', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code and not {'torch', 'rich', 'psutil'} & set(sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "Exit status 0 when all is ok" in " ".join(shown.stdout.split())
