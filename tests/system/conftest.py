"""Fixtures of whole commands and pages."""

from tests.support.browser import browser

__all__ = ["browser"]
