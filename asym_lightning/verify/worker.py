"""The jailed process that scores untrusted answers: a script of ``supervised.Worker``.

The trainer never imports it. One JSON object per line: the settings and then the jobs come in on
stdin; one reply for each goes out on stdout. It imports no torch (unless a user's scorer does), has
nothing of the trainer's environment but library paths, and ends when the trainer closes its stdin
or dies.
"""

import importlib
import json
import os
import signal
import sys
from typing import Any

MAX_REPLY_CHARS = 200
CPU_GRACE_S = 5


def _bound_cpu(seconds: float) -> None:
    """Let the kernel end this process if a computation goes on and no other process stops it."""
    try:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime + seconds) + CPU_GRACE_S
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        pass


def _failed(error: BaseException) -> dict[str, Any]:
    """Return the reply to a job whose scorer raised ``error``.

    ``spent`` is true for errors after which the process is no longer reliable.
    """
    spent = isinstance(error, MemoryError | RecursionError | KeyboardInterrupt | SystemExit)
    return {
        "kind": "error",
        "detail": f"{type(error).__name__}: {error}"[:MAX_REPLY_CHARS],
        "spent": spent,
    }


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    # Text that a library prints must not look like a reply.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # Sent to all processes of a job at once; the trainer handles it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    settings = json.loads(sys.stdin.readline())
    sys.path[:] = settings["path"]
    sys.dont_write_bytecode = True

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        from asym_lightning.runtime.watch.parent import die_with_parent
        from asym_lightning.verify import jail

        die_with_parent()
        module, _, name = settings["scorer"].partition(":")
        score = getattr(importlib.import_module(module), name)(**settings["options"])
        obstacle = jail.close(settings["memory_bytes"])
    except BaseException as error:
        reply(_failed(error))
        return
    reply({"kind": "ready", "jail": obstacle})
    for line in sys.stdin:
        job = json.loads(line)
        _bound_cpu(job["timeout_s"])
        try:
            result: dict[str, Any] = score(job["text"], job["reference"])
        except (
            BaseException
        ) as error:  # not Exception: math-verify's TimeoutException is outside it
            result = _failed(error)
        for key in ("answer", "detail"):
            value = result.get(key)
            result[key] = None if value is None else str(value)[:MAX_REPLY_CHARS]
        reply(result | {"id": job["id"]})
        if result.get("spent"):
            return


if __name__ == "__main__":
    main()
