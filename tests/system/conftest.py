"""Fixtures of whole commands, servers and pages."""

from tests.support.browser import browser
from tests.support.servers import given_server, outside, own_server

__all__ = ["browser", "given_server", "outside", "own_server"]
