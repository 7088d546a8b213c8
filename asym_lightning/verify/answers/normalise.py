"""One spelling for every way to write the same characters: text in, text out.

What only sets an answer (fonts, colours, sizes, markdown, dollar signs of formulas) goes; what
means something gets one name. No step removes a space between two digits.
"""

import re

MAX_CHARS = 4000
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SIGNS = {
    **dict.fromkeys("−–—‐‑‒﹣－", "-"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000\t\n\r", " "),
    **dict.fromkeys("\u200b\ufeff\u2060\u2061\u2062", ""),
    **dict.fromkeys("×✕⨯", "\\times "),
    **dict.fromkeys("·⋅∙", "\\cdot "),
    **dict.fromkeys("°º˚", "^\\circ "),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("‘’′", "'"),
    **dict.fromkeys("（", "("),
    **dict.fromkeys("）", ")"),
    **dict.fromkeys("⟨〈", "\\langle "),
    **dict.fromkeys("⟩〉", "\\rangle "),
    "∗": "*", "÷": "/", "⁄": "/", "∕": "/", "∞": "\\infty ", "≤": "<=", "≥": ">=", "≦": "<=",
    "≧": ">=", "≠": "!=", "≈": "\\approx ", "±": "\\pm ", "∓": "\\mp ", "∪": "\\cup ",
    "∩": "\\cap ", "∅": "\\emptyset ", "∈": "\\in ", "∠": "\\angle ", "△": "\\triangle ",
    "…": "\\ldots ", "⋯": "\\ldots ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}",
    "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}", "∖": "\\setminus ", "。": ".", "：": ":", "π": "\\pi ",
    "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ", "θ": "\\theta ",
    "λ": "\\lambda ", "μ": "\\mu ", "ρ": "\\rho ", "σ": "\\sigma ", "φ": "\\phi ", "ω": "\\omega ",
    "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "¼": "\\frac{1}{4}",
    "¾": "\\frac{3}{4}", "⅕": "\\frac{1}{5}", "⅖": "\\frac{2}{5}", "⅗": "\\frac{3}{5}",
    "⅘": "\\frac{4}{5}", "⅙": "\\frac{1}{6}", "⅚": "\\frac{5}{6}", "⅛": "\\frac{1}{8}",
    "⅜": "\\frac{3}{8}", "⅝": "\\frac{5}{8}", "⅞": "\\frac{7}{8}", "％": "%",
}  # fmt: skip
_TABLE = str.maketrans({**{chr(k): chr(v) for k, v in _FULL_WIDTH.items()}, **_SIGNS})
# Raised and lowered digits: a run of them is one exponent or one index.
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "₀₁₂₃₄₅₆₇₈₉"
_LEVEL = str.maketrans(_RAISED + _LOWERED, "0123456789-+n0123456789")
_RUN = re.compile(f"([{_RAISED}]+)|[{_LOWERED}]+")
_ROOT = re.compile(r"√ ?(\d+(?:\.\d+)?|\\?[A-Za-z]+)?")
_FORMULA = re.compile(r"(?<!\\)\$|\\\(|\\\)|(?<!\\)\\\[|\\\](?!\d)")
_SIZES = re.compile(
    r"\\(?:left|right|middle|bigg?[lrm]?|Bigg?[lrm]?)(?![A-Za-z])\.? ?"
    r"|\\(?:displaystyle|textstyle|scriptstyle|limits|large|Large|small|bf|rm|it|normalsize"
    r"|nolimits)(?![A-Za-z]) ?"
)
_COLOUR = re.compile(r"\\(?:text)?color ?(?:\[\w+\])?\{[^{}]*\}")
_GONE = re.compile(
    r"\\(?:phantom|hspace|vspace|tag|label|hphantom)\*? ?\{[^{}]*\}|\\phantom ?"
    r"|\\(?:checkmark|blacksquare|square|qed)(?![A-Za-z]) ?$|[✓✔■∎]$"
)
_FONTS = (
    r"boxed|fbox|mathbf|boldsymbol|bm|mathit|mathsf|mathnormal|pmb|underline|ensuremath|mathcal"
)
_FONT = re.compile(rf"\\(?:{_FONTS}) ?\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}|\\(?:mathbf|bm) ?(\d)")
_TEXTS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up|md|sc)?|mbox|hbox|emph|mathrm|operatorname\*?) ?"
    r"(?=\{)"
)
_ENDING = r"(?:st|nd|rd|th)"
_ORDINAL = re.compile(
    rf"(?<=\d) ?(?:\^ ?)?(?:\{{ ?\\text ?\{{ ?{_ENDING} ?\}} ?\}}|\\text ?\{{ ?{_ENDING} ?\}}"
    rf"|\{{ ?{_ENDING} ?\}})|(?<=\d){_ENDING}(?![A-Za-z])"
)
_NAMES = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\\(?:leqslant|leqq|leq|le)(?![A-Za-z]) ?"), "<="),
    (re.compile(r"\\(?:geqslant|geqq|geq|ge)(?![A-Za-z]) ?"), ">="),
    (re.compile(r"\\(?:neq|ne)(?![A-Za-z]) ?|\\not ?= ?|/="), "!="),
    (re.compile(r"\\lt(?![A-Za-z]) ?"), "<"),
    (re.compile(r"\\gt(?![A-Za-z]) ?"), ">"),
    (re.compile(r"\\(?:thickapprox|approxeq|simeq|approx)(?![A-Za-z]) ?"), r"\\approx "),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z]) ?"), "*"),
    (re.compile(r"\\div(?![A-Za-z]) ?"), "/"),
    (re.compile(r"\\pmod ?(\d)"), r"\\pmod{\1}"),
    (
        re.compile(r"\^ ?(?:\{ ?\\circ ?\}|\\circ ?)|\\degree ?|\\textdegree ?|\\deg(?![a-z]) ?"),
        "°",
    ),
    (re.compile(r"\\(?:cdots|dots|dotsc|dotsb)(?![A-Za-z])|\.\.\.+"), r"\\ldots "),
    (re.compile(r"\\(?:varnothing|empty)(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z]) ?"), "|"),
    (re.compile(r"\\lbrace(?![A-Za-z]) ?"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z]) ?"), r"\\}"),
    (re.compile(r"\\lbrack(?![A-Za-z]) ?"), "["),
    (re.compile(r"\\rbrack(?![A-Za-z]) ?"), "]"),
    (re.compile(r"\\colon(?![A-Za-z]) ?"), ":"),
    (re.compile(r"\\(?:backslash|smallsetminus)(?![A-Za-z])"), r"\\setminus"),
    (re.compile(r"\\(?:infin|infinity)(?![A-Za-z])"), r"\\infty"),
    (re.compile(r"\\(?:R|reals)(?![A-Za-z])|\\mathbb ?R"), r"\\mathbb{R}"),
    (re.compile(r"\\var(theta|phi|rho|epsilon|sigma|pi)(?![A-Za-z])"), r"\\\1"),
    (re.compile(r"\\(?:land|wedge)(?![A-Za-z])"), r"\\text{ and }"),
    (re.compile(r"\\(?:lor|vee)(?![A-Za-z])"), r"\\text{ or }"),
    (re.compile(r"\\(?:euro|EUR|texteuro)(?![A-Za-z])"), "€"),
    (re.compile(r"\\pounds(?![A-Za-z])"), "£"),
    (re.compile(r"US ?\\\$|\\textdollar(?![A-Za-z]) ?"), r"\\$"),
    (re.compile(r"\\(?:text)?cent(?![A-Za-z])"), "¢"),
    (re.compile(r"\\(?:begin|end)\{(?:align\*?|aligned|equation\*?|gathered|split)\}"), " "),
    (re.compile(r"\\%"), "%"),
    (_ORDINAL, ""),
    (re.compile(r"(?<=[\d.]) ?[xX] ?(?=10 ?\^)"), "*"),
)
_OVER = re.compile(r"\{([^{}]*)\\over(?![a-z])([^{}]*)\}")
_CHOOSE = re.compile(r"\{([^{}]*)\\choose(?![a-z])([^{}]*)\}")
_ANGLES = re.compile(r"^<([^<>]*,[^<>]*)>$")
_BASE = re.compile(
    r"^([0-9A-Fa-f]+) ?(?:\\text ?\{ ?)?\(?(?:in )?base[ -]?\}?\{? ?(\d{1,2}|[a-z]+)\)? ?\}?$"
)
_GAP = re.compile(r"(?<!\\)\\(?:[,;:> ]|quad(?![a-z])|qquad(?![a-z])|thinspace ?|enspace ?)|~")
# Groups of three digits, all with the same separator.
_GROUPS = re.compile(
    r"(?<![\d.,'_^A-Za-z])(?<!\d )([1-9]\d{0,2})(,|\{,\}|,\\!|\{,\}\\!|\\,|\\;|\\:|\\ |~|'| )"
    r"\d{3}(?:\2\d{3})*(?![\d'])(?!\2\d|,\d| ?\d)(?!/\d)"
)
_DOTS = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:\.\d{3}){2,})(?![\d.,])")
_OPENING, _CLOSING = "([", ")]"


def _inside_brackets(text: str, at: int) -> bool:
    """Return whether ``at`` lies within parentheses, square brackets or braces of a set."""
    before = text[:at]
    opened = sum(before.count(char) for char in _OPENING) + before.count("\\{")
    closed = sum(before.count(char) for char in _CLOSING) + before.count("\\}")
    return opened > closed


def join_thousands(text: str) -> str:
    """Return the text without the separators of thousands.

    A comma within brackets separates the parts of a tuple, not thousands.
    """

    def joined(match: re.Match[str]) -> str:
        if match[2] == "," and _inside_brackets(text, match.start()):
            return match[0]
        return re.sub(r"\D", "", match[0])

    text = _GROUPS.sub(joined, text)
    return _DOTS.sub(lambda match: match[0].replace(".", ""), text)


def strip_marks(text: str, stars: bool) -> str:
    """Return the text without marks around it; ``stars`` are markdown and no sign of a product."""
    before = ""
    while text != before:
        before = text
        text = text.strip().strip("`").strip()
        text = re.sub(r"^\*\*(.*)\*\*$|^__(.*)__$", r"\1\2", text, flags=re.DOTALL)
        if not text.endswith(("\\.", "\\,", "\\;", "\\:", "\\!", "\\ ")):
            text = text.rstrip(".,;:")
        else:
            text = text[:-2]
        text = re.sub(r"(?:\\\\|\\)$", "", text)
        text = re.sub(r"(?<=[^*])\*+$|^\*+(?=[^*])", "", text) if stars else text
        text = re.sub(r"^(?:\\(?:[,;:! ]|quad|qquad|approx(?![a-z]))|[=~])+", "", text).lstrip()
    return text


def _unwrap_fonts(text: str) -> str:
    for _ in range(8):
        changed = _FONT.sub(
            lambda match: f"{{{match[1] if match[1] is not None else match[2]}}}", text
        )
        if changed == text:
            break
        text = changed
    return text


def normalise(text: str) -> str:
    """Return an answer in the one spelling that the parser reads.

    Raises ``ValueError`` for a text of more than ``MAX_CHARS`` characters.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"longer than {MAX_CHARS} characters")
    text = re.sub(r"(?<=\d) +(?=[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])", "", text.strip())
    text = _ROOT.sub(lambda match: f"\\sqrt{{{match[1]}}}" if match[1] else "\\sqrt", text)
    text = _RUN.sub(lambda run: f"{'^' if run[1] else '_'}{{{run[0].translate(_LEVEL)}}}", text)
    text = re.sub(r"\.\.\.+", r"\\ldots ", text.translate(_TABLE))
    text = strip_marks(_FORMULA.sub("", text), stars=True)
    text = _COLOUR.sub("", _GONE.sub("", _SIZES.sub("", text)))
    text = _unwrap_fonts(text)
    text = _TEXTS.sub(r"\\text", text)
    text = join_thousands(text.replace("\\!", "") if ",\\!" not in text else text)
    text = _OVER.sub(r"\\frac{\1}{\2}", text.replace("\\!", "").replace("{,}", ","))
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", _ANGLES.sub(r"\\langle \1\\rangle ", text))
    text = _BASE.sub(r"\1_{\2}", text)
    for pattern, name in _NAMES:
        text = pattern.sub(name, text)
    text = _GAP.sub(" ", text)
    # Stars are signs of products by now.
    return strip_marks(" ".join(text.split()), stars=False)


_TIGHT = re.compile(r"(?<![\w}.)]) | (?![\w{.(])")


def squeeze(text: str) -> str:
    """Return a normalised text without the spaces that mean nothing."""
    return _TIGHT.sub("", text)
