"""An extension of griffe: how mkdocstrings reads the docstrings of this project."""

import re
from typing import Any

import griffe


class House(griffe.Extension):
    """Shows cross-references such as :class:`Resample` as code, and documents no imported names.

    Those are documented in the module that defines them.
    """

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        mod.exports = None

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            reference = r":(?:class|meth|func|mod):`([^`]+)`"
            obj.docstring.value = re.sub(reference, r"`\1`", obj.docstring.value)
