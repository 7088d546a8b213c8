"""The exact versions for Linux without a GPU fit the ranges of pyproject.toml."""

import re
import tomllib
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

FILE = ROOT / "constraints" / "linux-cpu-python3.11.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def wanted(extras: list[str]) -> Iterator[Requirement]:
    """Requirements of the project with these extras, and of the extras that those name."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            yield from wanted(sorted(requirement.extras))
        else:
            yield requirement


def test_names_and_versions_alone_stand_in_the_file() -> None:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 100 and lines == sorted(lines)
    assert all(re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.]+", line) for line in lines)


def test_everything_that_is_asked_for_has_an_exact_version_within_its_range() -> None:
    pinned = dict(line.split("==") for line in FILE.read_text().splitlines() if "==" in line)
    wrong = []
    for requirement in wanted(["cpu", "dev"]):
        version = pinned.get(canonicalize_name(requirement.name))
        if not requirement.specifier.contains(version or "0", prereleases=True):
            wrong.append(f"{requirement}: {version or 'not in the file'}")
    assert not wrong, "run `make constraints`"
