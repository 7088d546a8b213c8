"""Scripts of the checkout as modules."""

import importlib.util
from types import ModuleType

from tests.support import ROOT


def script(name: str) -> ModuleType:
    """``scripts/NAME.py`` as a module, loaded anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
