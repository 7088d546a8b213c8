"""The environment variable and the address check that a run and its servers share.

Imports little: every process of a server imports this module first.
"""

import ipaddress

# Environment variable of a server that a run started: the run's process id.
OWNER = "ASYM_LIGHTNING_OWNER"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
