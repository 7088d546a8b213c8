"""The jailed process that scores untrusted answers. Run as a script by ``pool.Worker``, never imported by the trainer.

One JSON object per line: the settings and then the jobs come in on stdin, one reply for each goes out on stdout. It imports no torch
(unless a user's scorer does), has an empty environment, and ends when the trainer closes its stdin or dies.
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
    """Let the kernel end this process should nobody else stop a computation."""
    try:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime + seconds) + CPU_GRACE_S
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        pass


def _failed(error: BaseException) -> dict[str, Any]:
    """The reply to a job whose scorer raised; after these the process is not to be relied on: ``spent``."""
    spent = isinstance(error, MemoryError | RecursionError | KeyboardInterrupt | SystemExit)
    return {"kind": "error", "detail": f"{type(error).__name__}: {error}"[:MAX_REPLY_CHARS], "spent": spent}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints must not look like a reply
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the trainer's to handle, when a whole job gets it
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
        except BaseException as error:  # math-verify's own TimeoutException is no Exception
            result = _failed(error)
        for key in ("answer", "detail"):
            result[key] = str(result[key])[:MAX_REPLY_CHARS] if result.get(key) is not None else None
        reply(result | {"id": job["id"]})
        if result.get("spent"):
            return


if __name__ == "__main__":
    main()
