"""The jailed process that runs math-verify on untrusted answers. Run as a script, never imported by the trainer.

One JSON object per line: the settings and then the jobs come in on stdin, one reply for each goes out on stdout. It imports
neither torch nor this package, has no environment to leak, and ends when the trainer closes its stdin.
"""

import json
import os
import sys
from contextlib import suppress
from typing import Any

MAX_REPLY_CHARS = 200
CPU_GRACE_S = 5
_FORBIDDEN = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.killpg",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
    "os.putenv",
    "subprocess.Popen",
    "pty.spawn",
}


def _jail(memory_bytes: int) -> None:
    """Limit memory, forbid writing, spawning and the network. Call after the imports."""
    try:
        import resource
    except ImportError:  # Windows: the audit hook below is all there is
        pass
    else:
        for name, value in (("RLIMIT_AS", memory_bytes), ("RLIMIT_FSIZE", 0), ("RLIMIT_NPROC", 0), ("RLIMIT_CORE", 0)):
            with suppress(AttributeError, ValueError, OSError):  # not on this platform; macOS has no working RLIMIT_AS
                resource.setrlimit(getattr(resource, name), (value, value))
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

    def guard(event: str, args: tuple[Any, ...]) -> None:
        # A second fence, not a sandbox against native code: stops what an injected Python expression would call.
        if event in _FORBIDDEN or event.startswith(("socket.", "shutil.")) or (event == "open" and args[2] & writing):
            raise PermissionError(f"{event} is forbidden here")

    sys.addaudithook(guard)


def _bound_cpu(seconds: float) -> None:
    """Let the kernel end this process should the trainer die while it computes."""
    try:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime + seconds) + CPU_GRACE_S
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        pass


def _canonical(expression: Any, text: str) -> str:
    """Text in which equal numbers are equal; other expressions as sympy prints them. The raw text where that fails."""
    import sympy

    try:
        if getattr(expression, "is_number", False):
            expression = sympy.nsimplify(expression.doit(), rational=True)
        return str(expression)
    except Exception:
        return text


def _parse(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # Boxed LaTeX only: the plain-expression extractor would pass the text to sympy's parse_expr, which runs code.
    return parse(f"\\boxed{{{text}}}", [LatexExtractionConfig(boxed_match_priority=0)], parsing_timeout=None)


def verify_answer(answer: str, gold: str) -> dict[str, str | None]:
    """Compare the inside of a box with the reference: ``{"kind", "answer", "detail"}``."""
    from math_verify import verify

    if answer.strip() == gold.strip():
        return {"kind": "correct", "answer": gold, "detail": ""}
    reference = _parse(gold)
    if not reference:
        return {"kind": "error", "answer": None, "detail": f"reference answer {gold[:60]!r} cannot be parsed"}
    parsed = _parse(answer)
    if parsed and verify(reference, parsed, timeout_seconds=None):
        return {"kind": "correct", "answer": gold, "detail": ""}
    expressions = [item for item in parsed if not isinstance(item, str)]
    if not expressions:
        return {"kind": "unparseable", "answer": None, "detail": "math-verify finds no expression in the box"}
    return {"kind": "wrong", "answer": _canonical(expressions[0], answer)[:MAX_REPLY_CHARS], "detail": ""}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints must not look like a reply
    settings = json.loads(sys.stdin.readline())
    sys.path[:] = settings["path"]
    sys.dont_write_bytecode = True

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        verify_answer("\\frac{1}{2} + x", "x + 0.5")  # loads what math-verify and sympy load lazily
        verify_answer("(1, \\infty)", "\\{1, 2\\}")
        _jail(settings["memory_bytes"])
    except BaseException as error:
        reply({"kind": "error", "detail": f"{type(error).__name__}: {error}"[:MAX_REPLY_CHARS]})
        return
    reply({"kind": "ready"})
    for line in sys.stdin:
        job = json.loads(line)
        _bound_cpu(job["timeout_s"])
        try:
            result: dict[str, Any] = verify_answer(job["answer"], job["gold"])
        except BaseException as error:  # math-verify's own TimeoutException is no Exception
            result = {"kind": "error", "answer": None, "detail": f"{type(error).__name__}: {error}"[:MAX_REPLY_CHARS]}
        reply(result)


if __name__ == "__main__":
    main()
