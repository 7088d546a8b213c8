"""Update constraints/ to the newest versions that pyproject.toml allows: `make constraints`.

pip chooses and installs them in a temporary environment. Names and versions of all installed
packages are written to the file.
"""

import os
import shutil
import sys
import tempfile

import install

LIST_VERSIONS = """
from importlib.metadata import distributions
for package in distributions():
    print(package.metadata["Name"].lower().replace("_", "-") + "==" + package.version)
"""


def installed_versions():
    """Return sorted lines such as "numpy==2.3.1", without build tags, pip and this project."""
    code, output = install.run_quietly([install.venv_python(), "-c", LIST_VERSIONS])
    if code:
        install.fail_with(output, "listing the installed versions")
    lines = sorted({line for line in output.splitlines() if "==" in line})
    lines = [line for line in lines if line.split("==")[0] not in ("pip", "asym-lightning")]
    return [line.split("+")[0] for line in lines]


def refresh():
    """Install the newest versions, and write the file.

    Raises:
        InstallError: the file is for another kind of machine, or a step failed.
    """
    engine = install.choose_engine(sys.platform, install.has_gpu())
    if sys.version_info[:2] != (3, 11) or engine != "cpu":
        raise install.InstallError(
            "constraints are for Linux without a GPU and Python 3.11; update them on such a machine"
        )
    folder = tempfile.mkdtemp(prefix="asym-lightning-constraints-")
    install.VENV = os.path.join(folder, "venv")
    try:
        install.stop_if(install.check_venv(install.can_make_venv()))
        free = shutil.disk_usage(folder).free
        install.stop_if(install.check_disk(free, install.DISK_GB_DEFAULT, folder))
        install.phase("virtual environment", install.make_venv)
        install.phase("torch", install.install_torch, "cpu")
        title = "the newest versions that pyproject.toml allows"
        install.phase(title, install.install_project, ["cpu", "dev"], None)
        # The list includes the packages that are removed below, so that pip chooses the same
        # versions of them next time.
        lines = installed_versions()
        install.phase("removing " + ", ".join(install.UNUSED), install.remove_unused)
        install.phase("import check", install.check_imports, "cpu")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not os.path.isdir(os.path.dirname(install.CONSTRAINTS)):
        os.makedirs(os.path.dirname(install.CONSTRAINTS))
    with open(install.CONSTRAINTS, "w") as file:
        title = "# Exact versions for Linux without a GPU, Python 3.11; "
        file.write("\n".join([title + "written by `make constraints`.", *lines]) + "\n")
    install.say(f"  {len(lines)} versions in {os.path.relpath(install.CONSTRAINTS, install.ROOT)}")


if __name__ == "__main__":
    sys.exit(install.report(refresh))
