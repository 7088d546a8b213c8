"""Write constraints/ anew: the newest versions that pyproject.toml allows, as pip chooses them today. `make constraints`

They are installed into a folder of their own, which is removed again; names and versions of all that came are written down.
"""

import os
import shutil
import sys
import tempfile

import install

LIST_VERSIONS = """
from importlib.metadata import distributions
print("\\n".join({one.metadata["Name"].lower().replace("_", "-") + "==" + one.version for one in distributions()}))
"""


def installed_versions():
    """Lines such as "numpy==2.3.1": names and versions alone, without pip and this project."""
    code, output = install.run_quietly([install.venv_python(), "-c", LIST_VERSIONS])
    if code:
        install.fail_with(output, "listing the installed versions")
    lines = [line for line in output.splitlines() if "==" in line]
    return [line.split("+")[0] for line in sorted(lines) if line.split("==")[0] not in ("pip", "asym-lightning")]


def refresh():
    """Install, list, write.

    Raises:
        InstallError: this is another machine than the file is for, or a step failed.
    """
    if sys.version_info[:2] != (3, 11) or install.choose_engine(sys.platform, install.has_gpu()) != "cpu":
        raise install.InstallError("constraints are for Linux without a GPU and Python 3.11; refresh them on such a machine")
    folder = tempfile.mkdtemp(prefix="asym-lightning-constraints-")
    install.VENV = os.path.join(folder, "venv")
    try:
        install.stop_if(install.check_venv(install.can_make_venv()))
        install.stop_if(install.check_disk(shutil.disk_usage(folder).free, install.DISK_GB_DEFAULT, folder))
        install.phase("virtual environment", install.make_venv)
        install.phase("torch", install.install_torch, "cpu")
        install.phase("the newest versions that pyproject.toml allows", install.install_project, ["cpu", "dev"], None)
        lines = installed_versions()  # those that are removed below, too: pip shall choose them the same way next time
        install.phase("removing " + ", ".join(install.UNUSED), install.remove_unused)
        install.phase("import check", install.check_imports, "cpu")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not os.path.isdir(os.path.dirname(install.CONSTRAINTS)):
        os.makedirs(os.path.dirname(install.CONSTRAINTS))
    with open(install.CONSTRAINTS, "w") as file:
        file.write("# Exact versions for Linux without a GPU, Python 3.11; written by `make constraints`.\n" + "\n".join(lines) + "\n")
    install.say(f"  {len(lines)} versions in {os.path.relpath(install.CONSTRAINTS, install.ROOT)}")


if __name__ == "__main__":
    sys.exit(install.report(refresh))
