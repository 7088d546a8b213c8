"""docs/extend/imports.md lists the public surface: the imports of the pages for extensions."""

import ast
import re
from importlib import import_module

from hydra.utils import get_object
from omegaconf import OmegaConf

from asym_lightning.config.callback_checks import MANDATORY, mandatory_settings
from asym_lightning.runtime.moved import BUILT_BY_RUN, MOVED, with_new_targets
from tests.support.configs import composed
from tests.support.pages import DOCS, EXAMPLES, blocks


def imported() -> set[tuple[str, str]]:
    """Module and name of every import of the package in the examples."""
    found = set()
    examples = [block for page in EXAMPLES for block in blocks(page)]
    sources = [text for language, _, text in examples if language == "python"]
    for node in (node for text in sources for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("asym_lightning"):
            found |= {(str(node.module), alias.name) for alias in node.names}
    return found


def listed() -> set[tuple[str, str]]:
    """Module and name of every row of the page's table."""
    page = (DOCS / "extend" / "imports.md").read_text()
    rows = re.findall(r"^\| `(asym_lightning[\w.]*)` \| (.+?) \|", page, re.MULTILINE)
    return {(module, name) for module, names in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_page_lists_what_the_examples_import() -> None:
    assert imported() == listed() and len(listed()) > 10


def test_every_public_name_is_there() -> None:
    for module, name in listed():
        try:
            import_module(f"{module}.{name}")
        except ModuleNotFoundError:
            assert hasattr(import_module(module), name), f"{module}.{name}"


def test_settings_of_callbacks_that_a_run_builds_may_name_the_class() -> None:
    """Configs of earlier versions do, and count as the same settings."""
    config = composed()
    for name, target in zip(MANDATORY, BUILT_BY_RUN, strict=True):
        assert get_object(target) is MANDATORY[name].kind
    own = ("+callbacks.rollout._target_=callbacks.vllm_rollout.VLLMRollout",)
    earlier = composed(*own, "callbacks.rollout.max_verify_errors=0.5")
    assert mandatory_settings(earlier, "rollout").max_verify_errors == 0.5
    trees = [OmegaConf.to_container(each) for each in (config, composed(*own))]
    assert trees[0] != trees[1] and trees[0] == with_new_targets(trees[1])


def test_moved_classes_are_where_the_message_says() -> None:
    for target in MOVED.values():
        assert callable(get_object(target)), target
