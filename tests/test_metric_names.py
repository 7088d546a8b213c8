"""docs/metrics.md and the code name the same metrics."""

import ast
import re
from fnmatch import fnmatchcase
from functools import cache

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.runs import random_policy, run

INTERNAL = {f"throughput/{name}" for name in ("generated_tokens", "learned_tokens", "flops")}  # become rates before anything is written
SOURCES = [*(ROOT / "asym_lightning").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]
NAME = re.compile(r"[a-z_]+(/[a-z0-9_@*]+)+")


def expand(name: str) -> list[str]:
    """`a/{b,c}` as two names, a placeholder such as `{edge}` as `*`."""
    choice = re.search(r"\{([^{}]+,[^{}]+)\}", name)
    if choice is None:
        return [re.sub(r"\{\w+\}", "*", name)]
    return [full for part in choice.group(1).split(",") for full in expand(name.replace(choice.group(), part.strip(), 1))]


@cache
def documented() -> tuple[str, ...]:
    """The names in the first column of the page's tables."""
    cells = re.findall(r"(?m)^\| (`[^|]+?) \|", (ROOT / "docs" / "metrics.md").read_text())
    return tuple(full for cell in cells for name in re.findall(r"`([^`]+)`", cell) for full in expand(name))


@cache
def written() -> frozenset[str]:
    """Every name in the code that is in one of the page's groups, or is given to a meter; what an f-string fills in is `*`."""
    groups = {name.split("/")[0] for name in documented()}
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            given = node.args[0] if isinstance(node, ast.Call) and node.args else None
            if given is not None and isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("mean", "maximum"):
                found.add(text(given))  # whatever its group
            found |= {name for name in [text(node)] if name.split("/")[0] in groups}
    return frozenset(name for name in found if NAME.fullmatch(name)) - INTERNAL


def text(node: ast.AST) -> str:
    """A string or f-string of the source, what is filled in as `*`; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    return ""


def same(one: str, other: str) -> bool:
    """Whether two names, either with `*`, can be one."""
    return fnmatchcase(one, other) or fnmatchcase(other, one)


def test_names_are_read_as_meant() -> None:
    assert expand("clip/{low,high}") == ["clip/low", "clip/high"] and expand("covariance/p_{edge}") == ["covariance/p_*"]
    assert text(ast.parse('f"time/{name}"').body[0].value) == "time/*"  # type: ignore[attr-defined]
    assert {"reward/mean", "covariance/p_*", "steer/beta_pos", "clip/dual", "eval/*/*", "verify/*"} <= written()
    assert len(documented()) == len(set(documented())) > 60


def test_each_metric_has_a_definition_a_unit_and_advice() -> None:
    rows = re.findall(r"(?m)^\| (`.*)$", (ROOT / "docs" / "metrics.md").read_text())
    assert len(rows) > 50
    for row in rows:
        *cells, end = (cell.strip() for cell in row.split("|"))
        assert len(cells) == 5 and all(cells) and not end, row


MANY_PARTS = (
    "modulation@algo.modulation=[adaptive_entropy,siren,reference_kl]",
    "rules@algo.rules=aepo",
    "algo.rules.dynamic_sampling=2",
    "data.difficulty.max_accuracy=0.9",
)


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What two short runs write into metrics.csv: the default method, and one with nearly everything turned on."""
    found: set[str] = set()
    for parts in (("algo=asymgrpo",), ("algo=asymgrpo_adaptive", "policy.prompts_per_mini_batch=4", *MANY_PARTS)):
        folder = tmp_path_factory.mktemp("run")
        (folder / "task").mkdir()
        (folder / "task" / "parity.yaml").write_text("_target_: tests.coin.Parity")
        policy = random_policy(folder / "policy")
        with pytest.MonkeyPatch.context() as monkeypatch:
            done = run(monkeypatch, folder, *parts, f"policy.path={policy}", "task=parity", "trainer.max_epochs=2")
        found |= set(pd.read_csv(done / "metrics.csv"))
    return found - {"step"}


def test_everything_a_run_writes_is_on_the_page(columns: set[str]) -> None:
    missing = sorted(name for name in columns if not any(fnmatchcase(name, known) for known in documented()))
    assert len(columns) > 60 and not missing, f"docs/metrics.md lacks {missing}"


def test_every_name_in_the_code_is_on_the_page() -> None:
    missing = [name for name in written() if not any(same(name, known) for known in documented())]
    assert not missing, f"docs/metrics.md lacks {sorted(missing)}"


def test_every_name_on_the_page_is_written(columns: set[str]) -> None:
    gone = [name for name in documented() if name not in written() and not any(fnmatchcase(column, name) for column in columns)]
    assert not gone, f"docs/metrics.md names {gone}, which nothing writes"
