"""What mkdocstrings is told about the code here."""

import re
from typing import Any

import griffe


class House(griffe.Extension):
    """A cross-reference such as :class:`Resample` is shown as code; what a package imports is documented where it is written."""

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        mod.exports = None

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r":(?:class|meth|func|mod):`([^`]+)`", r"`\1`", obj.docstring.value)
