"""Reuse of freed memory."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from asym_lightning.runtime.memory import keep_freed_memory

def made():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(32 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = made()
assert keep_freed_memory()
for _ in range(8):
    made()  # blocks are cut to size
print(given_back, made())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_pages_of_freed_tensors_are_not_made_anew() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=100
    )
    given_back, kept = map(int, done.stdout.split())
    assert kept < given_back / 10
