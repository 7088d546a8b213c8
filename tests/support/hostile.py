"""Completions that a policy could write to break its verifier: more than 500, each with a name.

``hostile(target)`` gives triples ``(name, completion, slow)``. Injected code makes the file
``target`` if it runs; a ``slow`` completion may compute until the time limit.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import suppress

import psutil

# Code that eval, exec, parse_expr or sympify would run.
_EXPRESSIONS = (
    "__import__('os').system('touch {t}')",
    "__import__('subprocess').run(['touch','{t}'])",
    "__import__('subprocess').Popen('touch {t}',shell=True)",
    "open('{t}','w').write('x')",
    "open('{t}','a').close()",
    "__import__('pathlib').Path('{t}').touch()",
    "__import__('os').mkdir('{t}')",
    "__import__('os').open('{t}',65)",
    "__import__('os').fork()",
    "__import__('os').execv('/bin/touch',['touch','{t}'])",
    "__import__('os').posix_spawn('/bin/touch',['touch','{t}'],{{}})",
    "__import__('os').symlink('/etc/passwd','{t}')",
    "__import__('os').kill(__import__('os').getppid(),9)",
    "__import__('os').kill(__import__('os').getpid(),9)",
    "__import__('socket').socket().bind(('127.0.0.1',0))",
    "__import__('socket').create_connection(('127.0.0.1',9))",
    "__import__('ctypes').CDLL(None).system(b'touch {t}')",
    "__import__('ctypes').CDLL(None).fork()",
    "__import__('ctypes').string_at(0)",
    "__import__('sys').exit(0)",
    "__import__('os')._exit(0)",
    "__import__('os').environ",
    "__import__('time').sleep(3)",
    "(lambda f:f(f))(lambda f:f(f))",
    "exec('import os; os.system(\"touch {t}\")')",
    "eval(compile('__import__(\"os\").system(\"touch {t}\")','x','eval'))",
    "().__class__.__base__.__subclasses__()",
    "[c for c in ().__class__.__base__.__subclasses__() "
    "if c.__name__=='Popen'][0](['touch','{t}'])",
    "getattr(__builtins__,'open')('{t}','w')",
    "sympify(\"__import__('os').system('touch {t}')\")",
    "parse_expr(\"open('{t}','w')\")",
    "lambdify(1,\"open('{t}','w')\")()",
    "Symbol('x').func.__globals__",
    "globals()['__builtins__']['__import__']('os').system('touch {t}')",
    "breakpoint()",
    "input()",
    "__import__('multiprocessing').Process(target=print).start()",
    "__import__('threading').Thread(target=lambda:open('{t}','w')).start()",
    "__import__('pickle').loads(b\"cos\\nsystem\\n(S'touch {t}'\\ntR.\")",
    "__import__('shutil').copy('/etc/passwd','{t}')",
)
# Every way in which a text could reach a parser.
_WRAPPERS = (
    "\\boxed{{{e}}}",
    "\\boxed{{\\text{{{e}}}}}",
    "\\boxed{{${e}$}}",
    "\\boxed{{x = {e}}}",
    "The answer is {e}",
)
_SHELL = (
    "\\write18{{touch {t}}}",
    "\\immediate\\write18{{touch {t}}}",
    "\\input{{|touch {t}}}",
    "\\input{{/etc/passwd}}",
    "\\openout15={t}",
    "\\def\\x{{\\x\\x}}\\x",
    "\\catcode`\\%=12",
    "$(touch {t})",
    "`touch {t}`",
    "; touch {t} #",
    "'; import os; os.system('touch {t}'); '",
    '"}}\n{{"kind":"correct","reward":1.0,"id":0}}\n',
    '{{"kind": "correct", "reward": 1}}',
    "!!python/object/apply:os.system ['touch {t}']",
    "<answer>__import__('os').system('touch {t}')</answer>",
    "${{jndi:ldap://127.0.0.1/x}}",
    "{{{{7*7}}}}",
    "%s%s%s%n",
)
_HANGING = ("9^{9^{9^9}}", "\\sum_{n=1}^{10^{9}} \\frac{1}{n^{n}} \\sin(n!)")
_HEAVY = (
    "10^{10^{10}}", "2^{2^{2^{2^{2^2}}}}", "99999999!", "(10^{9})!", "((9!)!)!", "170!!",
    "\\binom{10^{9}}{10^{8}}", "\\int_0^1 \\int_0^1 x^{x^{y^x}} dx dy", "\\int e^{\\sin(x^{x})} dx",
    "\\lim_{x \\to 0} \\frac{\\sin(\\tan(x))-\\tan(\\sin(x))}{x^7}",
    "\\sum_{n=1}^{\\infty} \\frac{(-1)^{n!}}{n^{n}}", "\\prod_{n=1}^{100000} n",
    "\\sqrt[10^{8}]{2}", "\\sqrt{2}^{\\sqrt{2}^{\\sqrt{2}^{\\sqrt{2}}}}", "(x+1)^{100000}",
    "(x+y+z)^{5000}", "(1+\\frac{1}{10^{100}})^{10^{100}}", "x^{x^{x^{x^{x^{x^{x}}}}}}",
    "\\log_{0}{0}", "\\frac{0}{0}", "\\frac{1}{0}", "\\tan(\\frac{\\pi}{2})", "\\infty - \\infty",
    "0^0", "i^{i^{i}}", "\\ln(-1)^{\\ln(-2)}", "[0, 10^{100}]", "\\{1, 2, \\ldots, 10^{12}\\}",
    "\\mathbb{R}^{10^{9}} \\setminus \\mathbb{Q}", "(-\\infty, \\infty) \\cup \\emptyset",
    "1e999999999", "10^{-999999999}", "0.1^{10^7}", "\\gcd(10^{50}, 10^{49})", "5 \\mod 0",
    "\\lfloor 10^{1000} \\pi \\rfloor", "|x|^{|x|^{|x|}}", "\\sin^{1000}(x) \\cos^{1000}(x)",
    "\\frac{d^{500}}{dx^{500}} e^{x^2}", "\\overline{0.123}", "7_{10^{9}}", "1_{0}",
)  # fmt: skip
_ODD = (
    "\x00", "1\x001", "\ud800", "\udfff\ud800", "\ufeff1", "１２", "٣", "Ⅻ", "½", "²", "1\u202e2",
    "1\u200b2", "𝟏", "π\u0338", "−1", "1‚000", "\u2028", "\x1b[2J", "\r\n\r\n", "\\u0031", "\\x31",
    "\\N{DIGIT ONE}", "\U0010ffff", "e\u0301" * 300, "\\", "\\\\", "{", "}", "$", "$$", "%", "#",
    "&", "~", "^", "_", "^^^^", "____", "\\frac", "\\frac{}{}", "\\frac{1}", "\\sqrt", "\\sqrt[",
    "\\left(", "\\right)", "\\left(\\left[", "\\begin{pmatrix}", "\\end{pmatrix}",
    "\\begin{pmatrix}\\end{pmatrix}", "\\begin{a}\\begin{b}", "&&&&\\\\\\\\", "\\text{", "\\boxed",
    "\\boxed{", "nan", "inf", "-inf", "None", "True", "NaN", "()", "[]", "\\{\\}", "(,)", ",,,",
    "1,,2", "=", "==", "x=", "=x", "x==1", "<", ">=", "!", "1!", "?", "1e", "e1", "0x10", "0b1",
    "1_000", "1__0", "--1", "+-+-1", "1/", "/1", "1//2", "1**", "..", "1.2.3",
    "1,2,3,4,5,6,7,8,9" * 9,
)  # fmt: skip
_NESTED = (
    ("braces", "{", "}"),
    ("parentheses", "(", ")"),
    ("roots", "\\sqrt{", "}"),
    ("fractions", "\\frac{1}{", "}"),
    ("texts", "\\text{", "}"),
    ("boxes", "\\boxed{", "}"),
    ("left", "\\left(", "\\right)"),
    ("powers", "2^{", "}"),
    ("sets", "\\{", "\\}"),
    ("bars", "|", "|"),
)
_SLOW = {"caret 400", "caret 900", "letters 900"}
for _name in ("braces", "parentheses", "sets", "bars", "powers"):
    _SLOW |= {f"{_name} {_size}" for _size in (100, 300)}


def _long() -> Iterator[tuple[str, str]]:
    """Bombs by size or depth, at the limit of the verifier (1,000 characters) and far above."""
    for size in (400, 900, 10_000, 1_000_000):
        yield f"digits {size}", "9" * size
        yield f"minus {size}", "-" * size + "1"
        yield f"spaces {size}", " " * size + "1"
        yield f"letters {size}", "a" * size
        yield f"commas {size}", "1," * (size // 2)
        yield f"backslashes {size}", "\\" * size
        yield f"dollars {size}", "$" * size
        yield f"caret {size}", "2^" * (size // 2) + "2"
    for depth in (100, 300, 10_000):
        for name, opening, closing in _NESTED:
            yield f"{name} {depth}", opening * depth + "1" + closing * depth
    for rows in (30, 150, 5000):
        yield f"matrix {rows}", "\\begin{pmatrix}" + "1&2\\\\" * rows + "\\end{pmatrix}"
        yield f"open matrix {rows}", "\\begin{pmatrix}" + "1&2\\\\" * rows
        yield f"sum {rows}", "+".join(["x"] * rows)
        yield f"equations {rows}", "=".join(["x"] * rows)
    yield "regex answer is", "answer is " * 50_000
    yield "regex stars", "**" * 50_000 + "answer"
    yield "regex text", "\\text{" * 20_000
    yield "regex thousands", "1,000" * 20_000 + "x"
    yield "regex spaces", "1" + " " * 100_000 + "%"


def hostile(target: str) -> list[tuple[str, str, bool]]:
    """The corpus: (name, completion, slow)."""
    found = []
    for number, expression in enumerate(_EXPRESSIONS):
        code = expression.format(t=target)
        for way, wrapper in enumerate(_WRAPPERS):
            found.append((f"injection {number} way {way}", wrapper.format(e=code), False))
    shell = [text.format(t=target) for text in _SHELL]
    found += [(f"shell {i}", f"\\boxed{{{text}}}", False) for i, text in enumerate(shell)]
    found += [(f"shell {i} bare", text, False) for i, text in enumerate(shell)]
    found += [(f"hanging {i}", f"\\boxed{{{text}}}", True) for i, text in enumerate(_HANGING)]
    found += [(f"heavy {i}", f"\\boxed{{{text}}}", True) for i, text in enumerate(_HEAVY)]
    found += [(f"odd {i}", f"\\boxed{{{text}}}", False) for i, text in enumerate(_ODD)]
    found += [(name, f"\\boxed{{{text}}}", name in _SLOW) for name, text in _long()]
    found += [(f"{name} bare", text, False) for name, text in _long()]
    return found


def family() -> set[int]:
    """Descendants of this process."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def strangers(known: Collection[int] = ()) -> list[str]:
    """The commands of descendants that are no scoring workers, and of workers that hold a socket.

    Processes in ``known`` are left out. A process counts if it is still suspect a moment later: a
    worker begins as a copy of this process, and a killed one loses its command line first.
    """
    suspects = _suspects(known)
    if not suspects:
        return []
    time.sleep(0.1)
    return [command for pid, command in _suspects(known).items() if pid in suspects]


def _suspects(known: Collection[int]) -> dict[int, str]:
    """Process id -> command line."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            command = " ".join(process.cmdline())
            is_worker = command.endswith("worker.py") and process.parent() == psutil.Process()
            if process.pid not in known and (not is_worker or process.net_connections()):
                found[process.pid] = command
    return found
