"""Commands in the documentation compose; its keys, defaults and messages are those of the code."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from asym_lightning.config.preflight import check_algorithm, check_numbers
from asym_lightning.runtime import config_dir
from callbacks.order import ORDER
from tests.support import ROOT
from tests.support.pages import DOCS, EXAMPLES, PAGES, TEXTS, blocks, commands
from tests.support.scripts import script

COMMANDS = [(page, words) for page in TEXTS for words in commands(page)]
STARTED = [
    (page, words)
    for page, words in COMMANDS
    if "train.py" in words and page not in EXAMPLES and "--config-dir" not in words
]
TRAINING = [(page, ["python", *words[words.index("train.py") :]]) for page, words in STARTED]


# ---- the site ----


def test_the_diagram_is_current() -> None:
    diagram = script("diagram")
    assert diagram.TARGET.read_text() == diagram.picture(), "run `python scripts/diagram.py`"


def test_the_order_of_callbacks_is_the_codes() -> None:
    table = (DOCS / "concepts.md").read_text().partition("## Callbacks")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| \d \| (.+?) \|", table)
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == ORDER


# ---- examples ----


def test_every_example_block_is_run() -> None:
    others = [page for page in PAGES if page not in EXAMPLES and page != "methods.md"]
    languages = {language for page in others for language, _, _ in blocks(page)}
    assert languages <= {"bash"}, "Python and YAML belong to an example page"


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
        for part in ("algo", "policy", "task", "rollout", "trainer"):
            assert not OmegaConf.missing_keys(config[part])
        check_numbers(config)
        check_algorithm(config)


OTHERS = [(page, words) for page, words in COMMANDS if words[:2] != ["python", "train.py"]]


@pytest.mark.parametrize(("page", "words"), OTHERS)
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
    """Every dotted key of the default configuration, and of three with the other choices."""
    found: set[str] = set()

    def walk(node: DictConfig, prefix: str) -> None:
        for key in node:
            found.add(f"{prefix}{key!s}")
            child = node._get_node(key)
            if isinstance(child, DictConfig):
                walk(child, f"{prefix}{key!s}.")

    modulations = sorted(path.stem for path in (config_dir() / "modulation").glob("*.yaml"))
    every_modulation = f"modulation@algo.modulation=[{','.join(modulations)}]"
    experiment = ["experiment=paper_evaluation", "policy=hf", "logger=wandb", every_modulation]
    fsdp2 = ["trainer=fsdp2", "correction=tis", "lora=default", "verify@task.verify=function"]
    deepspeed = ["trainer=deepspeed", "correction=mis", "rollout=servers", "logger=mlflow"]
    composite = "verify@task.verify=composite"
    choices = ([], experiment, fsdp2, [*deepspeed, composite])
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for overrides in choices:
            walk(compose("train", ["task=math", *overrides] if overrides else []), "")
    return frozenset(found)


@pytest.mark.parametrize("page", [page for page in TEXTS if page not in ("methods.md", *EXAMPLES)])
def test_keys_in_the_text_exist(page: str) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", (DOCS / page).read_text())
    # Only the last column of its tables has keys of this project.
    if page == "coming_from.md":
        text = re.sub(r"(?m)^\|.*\|(?=[^|]+\|$)", "", text)
    group = r"(?:algo|policy|task|rollout|trainer|callbacks|data|logger)"
    named = set(re.findall(rf"`({group}\.[a-z_.]+)(?:=[^`]*)?`", text))
    assert not sorted(key for key in named if key not in keys())
    choices = re.findall(r"`([a-z_]+)(?:@[a-z_.]+)?=([a-z_0-9]+)", text)
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    files = [config_dir() / group / f"{name}.yaml" for group, name in choices if group in groups]
    missing = [file for file in files if not file.is_file()]
    assert not missing, missing


def test_defaults_of_the_first_page_are_the_configs() -> None:
    """Cells such as `8`, or `3e-4, 2e-6 with policy=hf`."""
    text = (DOCS / "index.md").read_text()
    rows = re.findall(r"(?m)^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \|$", text)
    assert len(rows) > 7
    for key, cell in rows:
        for part in cell.split(", "):
            said, _, choice = part.replace("`", "").partition(" with ")
            with initialize_config_dir(str(config_dir()), version_base="1.3"):
                config = compose("train", [choice] if choice else [])
            found = OmegaConf.select(config, key)
            meant = {"none": None, "all of them": config.rollout.prompts_per_iteration}
            assert found == (meant[said] if said in meant else type(found)(said)), f"{key}: {part}"


def literals(path: Path) -> Iterator[str]:
    """The strings of a Python file, with … for each value that is put into them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            constants = [part.value for part in node.values if isinstance(part, ast.Constant)]
            yield "…".join(value for value in constants if isinstance(value, str))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[sdr.0-9f]+", "…", node.value)


def test_messages_in_troubleshooting_are_the_codes() -> None:
    files = [*(ROOT / "asym_lightning").rglob("*.py"), *(ROOT / "scripts").glob("install*.py")]
    source = "\n".join(literal for file in files for literal in literals(file))
    page = (DOCS / "troubleshooting.md").read_text()
    quoted = re.findall(r"(?m)^### `([^`]+)`$|^`(engine and trainer[^`]+)`$", page)
    assert len(quoted) > 15
    foreign = "operator torchvision::nms does not exist"  # torch's
    for message in (a or b for a, b in quoted):
        parts = [part.strip(" :;,") for part in message.split("…") if len(part.strip(" :;,")) > 3]
        assert parts and (message == foreign or all(part in source for part in parts)), message
