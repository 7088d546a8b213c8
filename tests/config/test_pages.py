"""The documentation's commands compose, its keys exist, its defaults and quoted messages are the code's."""

import ast
import importlib.util
import re
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from asym_lightning.config.preflight import check_algorithm, check_numbers
from asym_lightning.runtime import config_dir
from tests.support import ROOT
from tests.support.pages import DOCS, EXAMPLES, PAGES, TEXTS, blocks, commands

COMMANDS = [(page, words) for page in TEXTS for words in commands(page)]
STARTED = [(page, words) for page, words in COMMANDS if "train.py" in words and page not in EXAMPLES and "--config-dir" not in words]
TRAINING = [(page, ["python", *words[words.index("train.py") :]]) for page, words in STARTED]


# ---- the site ----


def test_the_diagram_is_current() -> None:
    spec: Any = importlib.util.spec_from_file_location("diagram", ROOT / "scripts" / "diagram.py")
    diagram = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(diagram)
    assert diagram.TARGET.read_text() == diagram.picture(), "run `python scripts/diagram.py`"


# ---- examples ----


def test_every_example_block_is_run() -> None:
    others = [(page, language) for page in PAGES if page not in EXAMPLES for language, _, _ in blocks(page)]
    assert {language for page, language in others if page != "methods.md"} <= {"bash"}, "Python and YAML belong to an example page"


# ---- commands, keys, messages ----


def jobs(words: list[str]) -> list[list[str]]:
    """The override lists of a command line, seeds aside; several for a multirun."""
    overrides = [word for word in words[2:] if not word.startswith(("-", "seed="))]
    parsed = OverridesParser.create().parse_overrides(overrides)
    return BasicSweeper.split_arguments(parsed, None)[0] if "-m" in words else [overrides]


@pytest.mark.parametrize(("page", "words"), TRAINING)
def test_training_commands_compose(page: str, words: list[str]) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        configs = [compose("train", job, return_hydra_config=True) for job in jobs(words)]
    for config in configs:
        assert not any(OmegaConf.missing_keys(config[part]) for part in ("algo", "policy", "task", "rollout", "trainer"))
        check_numbers(config)
        check_algorithm(config)


@pytest.mark.parametrize(("page", "words"), [c for c in COMMANDS if c[1][:2] != ["python", "train.py"]])
def test_other_commands_exist(page: str, words: list[str]) -> None:
    assert words[0] in ("make", "pip", "python", "source", "srun"), words
    if words[0] == "make":
        assert re.search(rf"(?m)^{words[1]}:", (ROOT / "Makefile").read_text()), words
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), words
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), words


@cache
def keys() -> frozenset[str]:
    """Every dotted key of the default configuration, and of one with the other policy and task and every modulation."""
    found: set[str] = set()

    def walk(node: DictConfig, prefix: str) -> None:
        for key in node:
            found.add(f"{prefix}{key!s}")
            child = node._get_node(key)
            if isinstance(child, DictConfig):
                walk(child, f"{prefix}{key!s}.")

    modulations = ",".join(sorted(path.stem for path in (config_dir() / "modulation").glob("*.yaml")))
    everything = ["policy=hf", "task=math", "experiment=paper_evaluation", "logger=wandb", f"modulation@algo.modulation=[{modulations}]"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        trainers = (
            ["correction=tis", "trainer=fsdp2", "lora=default", "task=math", "verify@task.verify=function"],
            ["correction=mis", "trainer=deepspeed", "rollout=servers", "logger=mlflow", "task=math", "verify@task.verify=composite"],
        )
        for overrides in ([], everything, *trainers):
            walk(compose("train", overrides), "")
    return frozenset(found)


@pytest.mark.parametrize("page", [page for page in TEXTS if page not in ("methods.md", *EXAMPLES)])
def test_keys_in_the_text_exist(page: str) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", (DOCS / page).read_text())
    if page == "coming_from.md":  # of its tables the last column names keys of ours
        text = re.sub(r"(?m)^\|.*\|(?=[^|]+\|$)", "", text)
    named = set(re.findall(r"`((?:algo|policy|task|rollout|trainer|callbacks|data|logger)\.[a-z_.]+)(?:=[^`]*)?`", text))
    assert not sorted(key for key in named if key not in keys())
    choices = re.findall(r"`([a-z_]+)(?:@[a-z_.]+)?=([a-z_0-9]+)", text)
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    missing = [(group, name) for group, name in choices if group in groups and not (config_dir() / group / f"{name}.yaml").is_file()]
    assert not missing, missing


def test_defaults_of_the_first_page_are_the_configs() -> None:
    """Cells such as `8`, or `3e-4, 2e-6 with policy=hf`."""
    rows = re.findall(r"(?m)^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \|$", (DOCS / "index.md").read_text())
    assert len(rows) > 7
    for key, cell in rows:
        for part in cell.split(", "):
            said, _, choice = part.replace("`", "").partition(" with ")
            with initialize_config_dir(str(config_dir()), version_base="1.3"):
                config = compose("train", [choice] if choice else [])
            found = OmegaConf.select(config, key)
            meant = {"none": None, "all of them": config.rollout.prompts_per_iteration}
            assert found == (meant[said] if said in meant else type(found)(said)), f"{key}: {part}"


def test_messages_in_troubleshooting_are_the_codes() -> None:
    literals = []
    for path in [*(ROOT / "asym_lightning").rglob("*.py"), ROOT / "scripts" / "install.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                literals.append("…".join(p.value for p in node.values if isinstance(p, ast.Constant) and isinstance(p.value, str)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                literals.append(re.sub(r"%[sdr.0-9f]+", "…", node.value))
    source = "\n".join(literals)
    page = (DOCS / "troubleshooting.md").read_text()
    quoted = re.findall(r"(?m)^### `([^`]+)`$|^`(engine and trainer[^`]+)`$", page)
    assert len(quoted) > 15
    foreign = "operator torchvision::nms does not exist"  # torch's
    for message in (a or b for a, b in quoted):
        parts = [part.strip(" :;,") for part in message.split("…") if len(part.strip(" :;,")) > 3]
        assert parts and (message == foreign or all(part in source for part in parts)), message
