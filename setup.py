"""The packages of a wheel; everything else about it is in pyproject.toml.

A wheel claims no other name at the top level than asym_lightning and hydra_plugins, the one from which Hydra takes
plugins. callbacks/ and conf/ travel within the package, and asym_lightning.runtime.setup puts their folder on the path.
"""

from setuptools import find_namespace_packages, setup

WITHIN = {"asym_lightning._checkout.callbacks": "callbacks", "asym_lightning._checkout.conf": "conf"}
CACHES = ["*__pycache__*"]

packages = find_namespace_packages(include=["asym_lightning*", "hydra_plugins*"], exclude=CACHES)
for name, place in WITHIN.items():
    packages += [name, *(f"{name}.{inner}" for inner in find_namespace_packages(place, exclude=CACHES))]

setup(packages=packages, package_dir=WITHIN)
