"""The jail and the pool of workers: nothing gets out, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asym_lightning.types import ConfigError, Kind
from asym_lightning.verify import jail
from asym_lightning.verify.function import FunctionVerifier
from asym_lightning.verify.math import MathVerifier
from asym_lightning.verify.reasoning_gym import ReasoningGymVerifier, find_answer
from tests.support import ROOT
from tests.support.hostile import family, hostile, strangers

needs_kernel = pytest.mark.skipif(
    bool(jail.obstacle()), reason=f"no jail by the kernel: {jail.obstacle()}"
)
ATTEMPTS = """
import ctypes, os, pathlib, signal, socket, subprocess, sys, threading
from asym_lightning.verify import jail
target = sys.argv[1]
kept = target + ".kept"
open(kept, "w").write("x")
parent = os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
assert jail.close(4 << 30) == ""
sys.stdout = open(1, "w", closefd=False)
calls = {
    "write": lambda: open(target, "w"),
    "append": lambda: open(kept, "a"),
    "create": lambda: os.open(target, os.O_CREAT),
    "tmpfile": lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR),
    "mkdir": lambda: os.mkdir(target),
    "unlink": lambda: os.unlink(kept),
    "rename": lambda: os.rename(kept, target),
    "symlink": lambda: os.symlink("/", target),
    "link": lambda: os.link(kept, target),
    "mkfifo": lambda: os.mkfifo(target),
    "chmod": lambda: os.chmod(kept, 0),
    "truncate": lambda: os.truncate(kept, 0),
    "utime": lambda: os.utime(kept),
    "memfd": lambda: os.memfd_create("x"),
    "chroot": lambda: os.chroot("/"),
    "fork": os.fork,
    "vfork and exec": lambda: subprocess.run(["true"]),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "kill": lambda: os.kill(parent, 0),
    "killpg": lambda: os.killpg(0, 0),
    "socket": socket.socket,
    "unix socket": lambda: socket.socket(socket.AF_UNIX),
    "pair": socket.socketpair,
    "secrets": lambda: open(f"/proc/{parent}/environ", "rb").read(),
    "home": lambda: open("/etc/passwd").read(),
    "from a thread": lambda: in_thread(lambda: open(target, "w")),
    }
def in_thread(attempt):
    failed = []
    def run():
        try:
            attempt()
        except OSError as error:
            failed.append(error)
    thread = threading.Thread(target=run)  # threads themselves are allowed
    thread.start(); thread.join()
    if failed:
        raise failed[0]
out = []
for name, call in calls.items():
    try:
        call()
    except OSError:
        continue
    out.append(name)
numbers = {
    "x86_64": dict(
        open=2, creat=85, socket=41, fork=57, vfork=58, execve=59, execveat=322, ptrace=101,
        bpf=321, io_uring=425, bind=49, connect=42, clone3=435, openat2=437, memfd=319,
        userfaultfd=323, kexec=246, mount=165, unshare=272, keyctl=250, vm_write=311,
        pidfd_open=434, shmget=29, mknod=133, x32_fork=0x40000000 + 57,
        ),
        "aarch64": dict(
        socket=198, execve=221, execveat=281, ptrace=117, bpf=280, io_uring=425, bind=200,
        connect=203, clone3=435, openat2=437, memfd=279, mount=40, unshare=97, keyctl=219,
        vm_write=271, pidfd_open=434, shmget=194, mknod=33,
    ),
}
path = ctypes.create_string_buffer(target.encode())
for name, number in numbers[os.uname().machine].items():
    flags = os.O_CREAT | os.O_WRONLY if name == "open" else 0
    if libc.syscall(number, path, flags, 0o600, 0, 0, 0) >= 0 or ctypes.get_errno() not in (1, 38):
        out.append(f"{name} by number: errno {ctypes.get_errno()}")
if libc.system(b"touch " + target.encode()) == 0:
    out.append("system")
import json, xml.dom.minidom  # the interpreter's own modules can still be read
print("escaped:", out)
"""
SCORER = """
import os, time
DATA = open(__file__).read()
def near(completion, answer):
    if completion == "raise": raise ValueError("a bug")
    if completion == "die": os.abort()
    if completion == "loop":
        while True: pass
    if completion == "eat": return len(bytearray(1 << 40))
    if completion == "nan": return float("nan")
    if completion.startswith("eval "): return float(bool(eval(completion[5:])))
    return 1 - abs(float(completion) - float(answer)), completion
"""


@needs_kernel
def test_a_jailed_process_can_do_nothing_but_compute(tmp_path: Path) -> None:
    target = tmp_path / "made"
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, str(target)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert done.stdout == "escaped: []\n", done.stderr
    assert os.listdir(tmp_path) == ["made.kept"] and (tmp_path / "made.kept").read_text() == "x"


PROBED = """
import os, sys
from asym_lightning.verify import jail
written = set()
def audit(event, args):
    if event == "open" and args[2] & os.O_ACCMODE:
        written.add(os.path.dirname(args[0]))
sys.addaudithook(audit)
jail._filter_calls = lambda libc: None  # a kernel that says yes and does nothing
jail._confine_reading = lambda libc, folders: False
print(jail.close(4 << 30), written - {os.environ["TMPDIR"], os.path.dirname(os.environ["TMPDIR"])})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the trial forks")
def test_what_is_not_jailed_is_noticed_without_a_file_that_others_could_foresee(
    tmp_path: Path,
) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [sys.executable, "-c", PROBED], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stdout == "the kernel lets through: a file, a process, a socket set()\n", (
        done.stdout + done.stderr
    )
    assert not os.listdir(tmp_path / "tmp")


def test_hostile_completions_leave_nothing_behind_and_harm_no_neighbour(tmp_path: Path) -> None:
    corpus, known = hostile(str(tmp_path / "made")), family()
    slow = [text for _, text, hangs in corpus if hangs][:6]
    completions = [text for _, text, hangs in corpus if not hangs] + slow
    assert len(set(completions)) > 450
    for extract in ("boxed", "lenient"):
        verifier = MathVerifier(timeout_s=1.0, extract=extract)
        bad = completions if extract == "boxed" else completions[:210]
        mixed = [text for attack in bad for text in (attack, "so \\boxed{7}")]
        verdicts = verifier.score(mixed, ["1", "14/2"] * (len(mixed) // 2), [False] * len(mixed))
        assert len(verdicts) == len(mixed)
        assert all(verdict.kind is Kind.CORRECT for verdict in verdicts[1::2])
        unscored = (Kind.ERROR, Kind.TIMEOUT, Kind.UNPARSEABLE)
        assert all(verdict.detail for verdict in verdicts if verdict.kind in unscored)
        assert not strangers(known)
        verifier.close()
    assert not os.listdir(tmp_path)


def test_workers_killed_at_random_lose_nothing() -> None:
    verifier = MathVerifier(workers=2)
    completions = [f"\\boxed{{x^2+{i}}}" for i in range(2000)]
    answers = [f"{i if i % 3 else i + 1} + x^2" for i in range(2000)]
    verifier.score(completions[:2], answers[:2], [False] * 2)
    done, killed = threading.Event(), []

    def kill() -> None:
        while not done.wait(0.02) and len(killed) < 8:
            process = verifier.pool.workers[len(killed) % 2].process
            if process is not None:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    verdicts = verifier.score(completions, answers, [False] * 2000)
    done.set()
    killer.join()
    verifier.close()
    assert killed
    assert [verdict.reward for verdict in verdicts] == [float(i % 3 > 0) for i in range(2000)]


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_scorer.py").write_text(SCORER)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_scorer:near"


@needs_kernel
def test_a_users_function_runs_in_the_jail(scorer: str, tmp_path: Path) -> None:
    verifier = FunctionVerifier(scorer, timeout_s=1.0, workers=2, threshold=0.9, max_chars=200)
    system = f"eval __import__('os').system('touch {tmp_path / 'made'}') == 0"
    opened = f"eval open({str(tmp_path / 'made')!r}, 'w')"
    texts = ["3", "2.5", "raise", "die", "loop", "eat", "nan", system, opened, "3", "x" * 201, "3"]
    verdicts = verifier.score(texts, ["3"] * len(texts), [False] * 11 + [True])
    verifier.close()
    assert [str(verdict.kind) for verdict in verdicts] == [
        *("correct", "wrong", "error", "error", "timeout", "error"),
        *("error", "wrong", "error", "correct", "unparseable", "truncated"),
    ]
    assert [verdict.reward for verdict in verdicts[:2]] == [1.0, 0.5]
    assert verdicts[1].answer == "2.5"
    assert "a bug" in verdicts[2].detail
    assert "died 2 times" in verdicts[3].detail
    assert "MemoryError" in verdicts[5].detail
    assert not (tmp_path / "made").exists()


def test_settings_of_functions_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for target, named in (
        ("json.loads", "module:function"),
        ("no_such_module_here:f", "no such module"),
    ):
        with pytest.raises(ConfigError, match=named):
            FunctionVerifier(target)
    monkeypatch.setattr(jail, "obstacle", lambda: "it needs Linux, and this is Plan 9")
    for make in (lambda: FunctionVerifier("json:loads"), ReasoningGymVerifier):
        with pytest.raises(ConfigError, match=r"only inside the kernel's jail.*Plan 9"):
            make()
    FunctionVerifier("json:loads", needs_jail=False)


@needs_kernel
def test_reasoning_gym_scores_in_the_jail(tmp_path: Path) -> None:
    gym = pytest.importorskip("reasoning_gym", reason="needs the package reasoning-gym")
    verifier = ReasoningGymVerifier(workers=1)
    completions, answers = [], []
    for name in ("countdown", "simple_equations", "simple_integration", "n_queens", "arc_agi"):
        entry = gym.create_dataset(name, size=1, seed=1)[0]
        reference = json.dumps({"dataset": name, "entry": entry}, default=str)
        for text in (
            f"so <answer>{entry['answer']}</answer>",
            f"__import__('os').system('touch {tmp_path / 'made'}')",
        ):
            completions.append(text)
            answers.append(reference)
    verdicts = verifier.score(completions, answers, [False] * len(completions))
    verifier.close()
    assert all(verdict.kind is Kind.CORRECT and verdict.reward == 1 for verdict in verdicts[::2])
    assert not any(verdict.kind is Kind.CORRECT for verdict in verdicts[1::2])
    assert not os.listdir(tmp_path)


def test_where_reasoning_gym_finds_the_answer() -> None:
    assert find_answer("<answer> 1 </answer> no: <answer>2</answer>") == "2"
    assert find_answer("so \\boxed{3}") == "3"
    assert find_answer(" 4\n") == "4"
    assert find_answer(" ") is None
    assert find_answer("<answer>5") == "<answer>5"
