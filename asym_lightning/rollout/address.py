"""What a run and the servers that it starts both know. Light: every process of a server imports it first."""

import ipaddress

OWNER = "ASYM_LIGHTNING_OWNER"  # environment variable of a server that a run started: the run's process id


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
