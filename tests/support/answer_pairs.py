"""Answers with their references and right verdicts, by kind; docs/verification.md shows them all.

Each kind has its rule, the pairs that are accepted and the pairs that are refused.
``python scripts/verification.py`` writes the page.
"""

from tests.support.number_pairs import NUMBER_KINDS, Kind, Pairs

__all__ = ["DECISIONS", "KINDS", "Kind", "Pairs"]

KINDS = (
    *NUMBER_KINDS,
    Kind(
        "Times and dates",
        "Texts, no arithmetic. Without am and pm on one side, those are passed over.",
        (
            ("12:00", "12:00"), ("7:15 AM", "7:15\\text{ a.m.}"), ("7:15", "7:15\\text{ a.m.}"),
            ("5:30\\text{ p.m.}", "5:30"), ("March 4", "\\text{March 4}"), ("4 March", "March 4"),
            ("July 4, 1776", "July 4 1776"), ("5 pm", "5:00 p.m."), ("3/14/2020", "3/14/2020"),
            ("\\text{7:15 AM}", "7:15\\text{ a.m.}"),
        ),
        (
            ("7:15 a.m.", "7:15 p.m."), ("7:16", "7:15"), ("12", "12\\text{ Monday}"),
            ("1/2/2020", "1/4040"), ("10:00", "10"), ("10 a.m.", "10"), ("4 March", "4"),
            ("2020-01-02", "2017"), ("March 5", "March 4"), ("\\text{Monday}", "\\text{Tuesday}"),
            ("\\frac{1}{2}", "5:10"),
        ),
    ),
    Kind(
        "Words and choices",
        "Words in any case. A choice is its letter; its text may stand beside it and must then "
        "fit. Several letters are no choice.",
        (
            ("(B)", "B"), ("(b) 5", "B"), ("b) 5", "B"), ("\\text{Option (B)}", "B"),
            ("\\text{five}", "5"), ("5", "five"), ("\\text{(B) } 5", "B"), ("B) 5", "B"),
            ("B. 5", "B"), ("\\textbf{(B)}\\ 5", "B"), ("5", "\\textbf{(B)}\\ 5"),
            ("Option B", "B"), ("\\mathbf{B}", "\\text{(B)}"), ("B, A", "A, B"),
            ("\\text{Yes}", "yes"), ("Monday", "\\text{monday}"), ("\\text{Evelyn}", "Evelyn"),
            ("Answer: B", "B"), ("The answer is (B)", "B"),
        ),
        (
            ("C", "B"), ("(B) 6", "(B) 5"), ("B and C", "B"), ("A or B", "A"), ("A, B, C, D", "B"),
            ("(A) (B) (C)", "B"), ("(C) or 5", "C"), ("\\text{(C)} \\text{ or } 5", "\\text{(C)}"),
            ("\\text{(C)} \\pm 5", "\\text{(C)}"), ("(C) 5 (D) 6", "C"), ("\\text{(C)}; 5", "(C)"),
            ("\\text{yes or no}", "yes"), ("6", "(B) 5"), ("e", "\\text{E}"),
            ("7", "\\text{eight}"), ("b+5", "B"),
            ("(A) B", "A"), ("A: B", "A"), ("A: no, B: yes", "A"), ("(A) \\text{ is wrong}", "A"),
        ),
    ),
    Kind(
        "Words beside a number",
        "Words that only set an answer go. Words that change it do not.",
        (
            ("\\text{The answer is }5", "5"), ("5\\text{ (exactly)}", "5"),
            ("\\text{about } 5", "5"), ("5 in total", "5"),
            ("\\text{There are } 5 \\text{ ways}", "5"),
            ("\\text{The value of } x \\text{ is } 5", "5"),
            ("Answer: 5", "5"), ("The answer is 5", "5"), ("Total = 5", "5"),
        ),
        (
            ("\\text{not } 5", "5"), ("\\text{not } x = 5", "5"), ("\\text{not } \\approx 5", "5"),
            ("\\text{not} = 5", "5"), ("\\text{more than } 5", "5"), ("\\text{less than } 5", "5"),
            ("\\text{at least } 5", "\\text{at most } 5"), ("\\text{Room } 5", "5"),
            ("5\\text{ is wrong}", "5"), ("5\\text{ is not the answer}", "5"),
            ("5\\text{ (wrong)}", "5"), ("\\text{half of } x = 5", "5"),
        ),
    ),
    Kind(
        "Names and equations",
        "`x = 5` is 5, but not `y = 5`. Equations are equal up to a factor. Of equal values in "
        "a row each must be equal to the first, or a rounding of it to three digits or more.",
        (
            ("x=5", "5"), ("5", "x=5"), ("\\text{Area} = 12", "12"),
            ("\\angle ABC = 60^\\circ", "60"), ("AB = 12", "12"), ("y=2x+1", "2x+1"),
            ("f(x)=x", "x"), ("a+b=12", "12"), ("2+3=5", "5"), ("\\frac{10}{2} = 5", "5"),
            ("20\\pi \\approx 62.8", "20\\pi"), ("n \\approx 12", "12"),
            ("\\frac{x^2}{4}+\\frac{y^2}{3}=1", "3x^2+4y^2=12"), ("x=5, y=7", "(5,7)"),
            ("y=7, x=5", "(5,7)"), ("x_1=5, x_2=7", "5, 7"),
            ("\\sin\\theta=\\frac35", "0.6"), ("f^{-1}(2)=5", "5"), ("P(A\\cap B)=\\frac12", "0.5"),
            ("m\\angle ABC=5^\\circ", "5"), ("x_{\\text{max}}=5", "5"), ("\\frac{dy}{dx}=2x", "2x"),
            ("\\frac{AB}{CD}=5", "5"),
        ),
        (
            ("y=5", "x=5"), ("f(2)=4", "f(3)=4"), ("x=x", "x=5"), ("x=x", "5"),
            ("0=0", "2x+4y-3=0"), ("2x=10", "x=5"), ("x^2=5", "5"), ("g(x)=2x", "f(x)=2x"),
            ("y=2x", "x=2y"), ("2x+3y=5", "2x+3y=6"), ("5=6", "5"), ("6=5", "5"),
            ("5 \\approx 6", "5"), ("\\sqrt2\\approx1.5", "\\sqrt2"), ("x=5=6", "5"),
            ("\\sqrt{x}=5", "5"), ("\\log x=5", "5"), ("\\ln(x)=5", "5"), ("f(a)=5", "f(b)=5"),
        ),
    ),
    Kind(
        "Lists and sets",
        "Part by part in any order, with an ellipsis in order. More values than asked for are "
        "no answer, and neither are fewer. Boxes with only commas, \"and\" or \"or\" between them "
        "are a list.",
        (
            ("7, 5", "5, 7"), ("5 \\text{ or } 7", "5,7"), ("5 and 7", "5, 7"),
            ("x=5\\text{ or }x=7", "5, 7"), ("\\{1,2,3\\}", "\\{3,2,1\\}"),
            ("\\{1,2,2\\}", "\\{1,2\\}"), ("x\\in\\{3,4\\}", "3, 4"), ("\\{5\\}", "5"),
            ("\\frac12\\text{ or }0.5", "0.5"), ("1, 2, \\text{ and } 3", "3,2,1"),
            ("\\pm 4", "4,-4"),
            ("\\frac{1\\pm\\sqrt5}{2}", "\\frac{1+\\sqrt5}{2}, \\frac{1-\\sqrt5}{2}"),
            ("\\mp 3", "\\pm 3"),
            ("\\{{1,2}\\}", "\\{1,2\\}"),
        ),
        (
            ("5", "5, 7"), ("5, 7", "5"), ("x=5, 7", "5"), ("7 \\text{ or } 8", "7"),
            ("1,2,3,4,5,6,7,8,9,10", "7"), ("3,4,4", "3,4"), ("\\{1,2\\}", "\\{1,2,3\\}"),
            ("4", "\\pm 4"), ("1+2i", "1\\pm 2i"), ("5 \\pm 10^{-20}", "5"),
            ("1, 3, \\ldots, 2n-1", "1, 2, \\ldots, n"), ("(5,7)", "5, 7"), ("5,,7", "5,7"),
            ("\\{1\\},\\{2\\}", "\\{1,2\\}"), ("\\{\\{1,2\\}\\}", "\\{1,2\\}"),
        ),
    ),
    Kind(
        "Points, vectors and matrices",
        "In order and with the same brackets; angle brackets are round ones. A row or a column "
        "is the point with its entries.",
        (
            ("\\langle 3,4\\rangle", "(3,4)"), ("<3, 4>", "(3,4)"), ("(\\pm 1, 0)", "(1,0),(-1,0)"),
            ("(x,y)=(3,4)", "(3,4)"), ("\\{(3,4)\\}", "(3,4)"),
            ("\\begin{pmatrix}3\\\\4\\end{pmatrix}", "(3,4)"),
            ("\\begin{bmatrix}3\\\\4\\end{bmatrix}", "\\begin{pmatrix}3\\\\4\\end{pmatrix}"),
            ("[5]", "5"),
            ("r=2,\\theta=\\frac{\\pi}{3}", "(2,\\frac{\\pi}{3})"),
            ("[[1,2],[3,4]]", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
            ("\\begin{pmatrix}1\\\\[2pt]2\\end{pmatrix}", "(1,2)"),
        ),
        (
            ("(4,3)", "(3,4)"),
            ("\\begin{pmatrix}3&4\\end{pmatrix}", "\\begin{pmatrix}3\\\\4\\end{pmatrix}"),
            ("(1,2)", "(3,4), (1,2)"), ("(5,5)", "5"), ("3, 4", "(3,4)"), ("()", "(0,0)"),
            ("\\theta=3,r=\\frac{\\pi}{2}", "(3,\\frac{\\pi}{2})"), ("(y,x)=(1,2)", "(1,2)"),
            ("[[1,2],[3,4]]", "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}"),
        ),
    ),
    Kind(
        "Intervals and inequalities",
        "Sets of real numbers, end by end. The name of the variable must fit where both have "
        "one.",
        (
            ("x \\geqslant 5", "[5,\\infty)"), ("5 \\le x", "x \\geq 5"), ("3>x>2", "2<x<3"),
            ("(2,3)", "2<x<3"), ("]1,2[", "(1,2)"), ("\\{x \\mid x>2\\}", "(2,\\infty)"),
            ("x>2 \\text{ and } x<5", "(2,5)"),
            ("m \\in [\\sqrt{2}, +\\infty)", "m \\geq \\sqrt{2}"),
            ("(3,4)\\cup(1,2)", "(1,2)\\cup(3,4)"), ("(-\\infty,2)\\cup(2,\\infty)", "x\\neq 2"),
            ("\\mathbb{R}\\setminus\\{2\\}", "x \\ne 2"),
            ("x<3 or x>5", "(-\\infty,3)\\cup(5,\\infty)"),
            ("\\text{all real numbers}", "(-\\infty,\\infty)"), ("\\{\\}", "\\emptyset"),
            ("\\text{no solution}", "\\emptyset"), ("∅", "\\varnothing"),
            ("\\{x \\in \\mathbb{R} \\mid x > 2\\}", "(2,\\infty)"),
        ),
        (
            ("[1,2]", "(1,2)"), ("[1,2)", "[1,2]"), ("x \\le 5", "x \\geq 5"),
            ("x \\neq 5", "x = 5"), ("x>2", "x>3"), ("y\\in(3,5)", "3<x<5"),
            ("(-\\infty,\\infty)", "(3,5)"), ("[4,6]", "5"), ("4<x<6", "5"), ("0", "\\emptyset"),
            ("\\text{no}", "\\emptyset"), ("\\{0\\}", "\\emptyset"), ("(5,3)", "(3,5)"),
            ("\\{x \\in \\mathbb{Z} \\mid x > 2\\}", "(2,\\infty)"),
        ),
    ),
    Kind(
        "Expressions",
        "Equal by algebra; that they agree at some points is not enough. Variables are known by "
        "name.",
        (
            ("(x+1)^2", "x^2+2x+1"), ("ab", "ba"), ("\\sec^2(y)", "\\tan^2(y)+1"),
            ("\\sin 2x", "2\\sin x\\cos x"), ("\\frac{x^2-1}{x-1}", "x+1"), ("2\\pi r", "2r\\pi"),
        ),
        (
            ("x+10^{-30}", "x"), ("\\sqrt{x^2}", "x"), ("|x|", "x"), ("x^2", "y^2"),
            ("f(1)", "f(2)"), ("x \\ne y", "x"), ("a_1", "a_2"),
        ),
    ),
    Kind(
        "Ratios",
        "Equal up to a factor; a ratio of two parts is their quotient. Two digits behind the "
        "colon may be minutes: then it is a time.",
        (
            ("6:8", "3:4"), ("3:4", "3/4"), ("\\frac34", "3:4"), ("2:4:6", "1:2:3"),
            ("1\\text{ to }2", "1:2"),
        ),
        (
            ("4:3", "3:4"), ("1:2", "1:2:3"), ("1:4:9:\\ldots", "1:2:3:\\ldots"), ("0:0", "3:4"),
        ),
    ),
)  # fmt: skip

# Where people differ: answer, reference, whether it is accepted, and the decision.
DECISIONS = (
    ("4\\sqrt(2)", "4\\sqrt{2}", True, "Brackets behind `\\sqrt` hold what the root is taken of."),
    ("0.3333333", "\\frac{1}{3}", False, "Seven digits are a rounding; it takes 12."),
    ("3.1415927", "\\pi", False, "The same for constants."),
    ("2\\frac{3}{4}\\pi", "\\frac{11\\pi}{4}", True, "A mixed number may be a factor."),
    ("\\frac{\\pi}{4}", "45^\\circ", True, "A degree sign makes an angle, which has radians."),
    ("50%", "\\frac12", True, "A per cent sign on one side alone reads both ways."),
    ("1.000.000", "1000000", True, "Two or more points between groups of three digits separate."),
    ("3,14", "3.14", False, "A comma separates parts or thousands, never decimals."),
    ("\\text{at least } 5", "5", True, "\"At least\" and \"at most\" may be missing on one side."),
    ("17:30", "5:30\\text{ p.m.}", True, "The clock of 24 hours is a way to write a time."),
    ("A", "a", False, "Bare letters are variables, whose case counts."),
    ("AB", "A, B", False, "Letters side by side are a product, no list."),
    ("\\text{north-west}", "northwest", True, "A hyphen within a word does not count."),
    ("20\\pi = 62.8", "20\\pi", True, "An exact value may be followed by its rounding."),
    ("5, 6", "(5,6)", False, "Two values without brackets are no point, unless each has its name."),
)  # fmt: skip
