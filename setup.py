"""The packages of a wheel; its other settings are in pyproject.toml.

A wheel has only two names at the top level: asym_lightning, and hydra_plugins for Hydra's plugins.
It contains callbacks/ and conf/ within asym_lightning; asym_lightning.runtime.setup puts their
folder on the path.
"""

from setuptools import find_namespace_packages, setup

WITHIN = {
    "asym_lightning._checkout.callbacks": "callbacks",
    "asym_lightning._checkout.conf": "conf",
}
CACHES = ["*__pycache__*"]

packages = find_namespace_packages(include=["asym_lightning*", "hydra_plugins*"], exclude=CACHES)
for name, place in WITHIN.items():
    inner = find_namespace_packages(place, exclude=CACHES)
    packages += [name, *(f"{name}.{package}" for package in inner)]

setup(packages=packages, package_dir=WITHIN)
