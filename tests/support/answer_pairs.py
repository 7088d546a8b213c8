"""Answers with their references and right verdicts, by kind; docs/verification.md shows them all.

Each kind has its rule, the pairs that are accepted and the pairs that are refused.
``python scripts/verification.py`` writes the page.
"""

from typing import NamedTuple

Pairs = tuple[tuple[str, str], ...]


class Kind(NamedTuple):
    title: str
    rule: str
    accepted: Pairs
    refused: Pairs


KINDS = (
    Kind(
        "Numbers side by side",
        "A space, `\\,`, `\\ `, `~` or `,` between groups of three digits separates thousands. A "
        "whole number, a space and a fraction below 1 is a mixed number. Any other two numbers "
        "side by side are no number.",
        (
            ("12\\,345", "12345"), ("12 345", "12345"), ("98~765~432", "98765432"),
            ("1\\;000\\;000", "1000000"), ("12{,}345", "12345"), ("12,\\!345", "12345"),
            ("7'654", "7654"), ("1 1/4", "5/4"), ("3\\ 1/2", "\\frac72"), ("2 ¼", "\\frac94"),
            ("-2\\frac{1}{2}", "-2.5"), ("5\\tfrac{2}{3}", "\\frac{17}{3}"), ("(2)(3)", "6"),
            ("2\\pi\\sqrt{3}", "\\sqrt{12}\\pi"), ("(n-2) 2^{n}", "2^n(n-2)"),
        ),
        (
            ("3 4", "7"), ("1 2 3", "6"), ("2 1/4", "3/4"), ("98 76", "9876"), ("9 8", "98"),
            ("100\\,50", "150"), ("1\\,000", "1"), ("3 4", "12"),
            ("3\\frac{5}{4}", "\\frac{17}{4}"), ("2^{3}\\frac{1}{4}", "2"),
            ("\\frac12\\frac13", "\\frac56"), ("\\sqrt2 3", "3\\sqrt2"), ("12,34", "1234"),
            ("1,2", "12"), ("123,456", "123, 456"), ("3 (4)", "12"),
        ),
    ),
    Kind(
        "Exact values",
        "Fractions, roots, logarithms and functions are compared exactly; nothing counts as "
        "zero because it is small. What is not decided within bounds is `timeout`, never right.",
        (
            ("\\frac{2}{4}", "0.5"), ("2\\sqrt{3}", "\\sqrt{12}"),
            ("\\sqrt{5+2\\sqrt6}", "\\sqrt2+\\sqrt3"), ("\\frac{1}{\\sqrt2+1}", "\\sqrt2-1"),
            ("e^{i\\pi}", "-1"), ("\\log_4 8", "\\frac32"), ("\\ln 8", "3\\ln 2"),
            ("\\binom{52}{5}^{-1}", "\\frac{1}{2598960}"), ("4!", "24"),
            ("\\frac{2^{99}-1}{2^{99}}", "1-\\frac{1}{2^{99}}"),
            ("\\tan\\frac{\\pi}{12}", "2-\\sqrt3"),
            ("\\cos\\frac{\\pi}{5}", "\\frac{1+\\sqrt5}{4}"), ("14.0 + -1.0i", "14 - i"),
            ("\\sum_{n=1}^{4} n", "10"), ("|{-3}|", "3"), ("\\lfloor 7/2 \\rfloor", "3"),
            ("\\sqrt[3]{2+\\sqrt5}+\\sqrt[3]{2-\\sqrt5}", "1"), ("\\sqrt[3]{-8}", "-2"),
            ("{5 \\choose 2}", "10"), ("{1 \\over 2}", "0.5"),
            ("e^{2\\pi i/3}", "-\\frac12+\\frac{\\sqrt3}{2}i"),
        ),
        (
            ("\\frac{3}{10^{30}}", "\\frac{10^{30}-1}{10^{30}}"), ("10^{20}", "\\sqrt{10^{40}+1}"),
            ("10^{200}", "\\sqrt{10^{400}+1}"), ("0.0", "0.0000001"), ("0", "10^{-7}"),
            ("\\frac{1}{2^{98}}", "\\frac{1}{2^{99}}"), ("\\pi+10^{-40}", "\\pi"),
            ("10^{-99}", "e^{-100}"), ("\\frac{1}{10^{50}}", "0"),
            ("262537412640768744", "e^{\\pi\\sqrt{163}}"), ("9^{9^{9^9}}", "9^{9^{9^8}}"),
            ("\\frac{0}{0}", "0"), ("\\frac{1}{0}", "\\infty"), ("\\infty", "0"), ("nan", "0"),
            ("\\infty-\\infty", "0"), ("--8", "8"), ("8+", "8"),
        ),
    ),
    Kind(
        "Decimals",
        "A decimal is an exact number. For a value that it only rounds it needs 12 significant "
        "digits and an error below one unit of the last; with 16 digits, 2^-52 of the value.",
        (
            ("0.50", "\\frac12"), (".5", "0.5"), ("5.", "5"), ("1.4142135623730951", "\\sqrt2"),
            ("1.4142135623731", "\\sqrt2"), ("0.0833333333333333", "\\frac{1}{12}"),
            ("0.30000000000000004", "0.3"), ("9007199254740993.0", "9007199254740993"),
            ("1e6", "1000000"), ("2.5e-3", "0.0025"), ("6.02e+23", "6.02\\times10^{23}"),
            ("1.2x10^5", "120000"), ("1.2 × 10^5", "120000"), ("10^-3", "0.001"),
            ("1e-5", "10^{-5}"), ("0.\\overline{142857}", "\\frac17"),
            ("0.1\\overline{6}", "\\frac16"), ("0.(3)", "\\frac13"), ("0.\\bar{3}", "1/3"),
            ("0.333...", "\\frac13"), ("0.1666\\ldots", "\\frac16"),
        ),
        (
            ("0.333", "\\frac13"), ("1.41421", "\\sqrt2"), ("3.14", "\\pi"), ("62.8", "20\\pi"),
            ("1000000.0000001", "1000000"), ("2.9999999999999996", "3"), ("1.0000000000001", "1"),
            ("12345678901234567890.0", "12345678901234567891"), ("3\\times 10^8", "299792458"),
            ("9007199254740992", "9007199254740993"), ("1e3", "1"), ("0.1\\overline{6}", "0.16"),
            ("1.2.3", "1.2"), ("3.14159...", "\\pi"), ("0.333...", "0.333"), ("0x10", "16"),
        ),
    ),
    Kind(
        "Characters and wrappers",
        "Dashes, full width, degree, root and currency signs, fonts, colours, sizes, markdown "
        "and marks at the end mean what they show. Digits of other scripts and look-alikes are "
        "not read.",
        (
            ("−5", "-5"), ("–5", "-5"), ("５", "5"), ("√12", "2\\sqrt3"), ("x²", "x^2"),
            ("2π", "2\\pi"), ("45°", "45"), ("€18", "18"), ("\\$18.90", "18.9"), ("**73**", "73"),
            ("*73*", "73"), ("`73`", "73"), ("73;", "73"), ("73.", "73"), ("$73$", "73"),
            ("\\(73\\)", "73"), ("\\mathbf{73}", "73"), ("\\text{73}", "73"),
            ("{\\color{red}73}", "73"), ("\\textcolor{red}{73}", "73"),
            ("\\displaystyle\\frac12", "\\frac12"), ("\\left(73\\right)", "73"), ("73\\quad", "73"),
            ("\\mathrm{e}^2", "e^2"), ("2\\mathrm{i}", "2i"), ("1\u200b2", "12"),
            ("\\approx 73", "73"), ("73^{\\text{th}}", "73"), ("73rd", "73"),
        ),
        (
            ("٣", "3"), ("0\u0660", "0"), ("3\u202e2", "32"), ("О", "0"), ("O", "0"), ("l", "1"),
            ("\\text{}", "0"), ("-", "0"), ("?", "0"), ("\\mathrm{e}", "e^2"),
        ),
    ),
    Kind(
        "Units",
        "Two units must be the same unit; nothing is converted. A unit may be missing on one "
        "side, and words that name what is counted are a unit.",
        (
            ("5\\ \\mathrm{km/h}", "5"), ("5", "5\\text{ cm}"), ("5\\text{ metres}", "5\\text{ m}"),
            ("7\\text{ square inches}", "7\\text{ in}^2"), ("7 miles per hour", "7\\text{ mph}"),
            ("5\\,\\frac{\\text{m}}{\\text{s}}", "5"), ("20\\pi\\text{ cm}^3", "20\\pi"),
            ("12 hours", "12"), ("\\text{5 apples}", "5"), ("18 dollars", "\\$18"),
            ("30\\text{ degrees}", "30^\\circ"), ("\\sin 30^\\circ", "\\frac12"),
            ("9 min", "9\\text{ min}"),
        ),
        (
            ("5 m", "5 cm"), ("500\\text{ cm}", "5\\text{ m}"), ("7\\text{ cm}^2", "7\\text{ cm}"),
            ("€7", "\\$7"), ("700 cents", "\\$7"), ("7 hours", "7 minutes"),
            ("\\sin 30", "\\frac12"), ("5 apples", "5 pears"), ("\\frac{\\pi}{4}", "45"),
        ),
    ),
    Kind(
        "Per cent",
        "With a per cent sign on one side alone, n% is n and n/100; with both, the numbers "
        "count.",
        (
            ("50\\%", "50"), ("50", "50\\%"), ("0.5", "50\\%"), ("50 percent", "50\\%"),
            ("25%", "0.25"), ("\\frac{1}{4}", "25\\%"),
        ),
        (
            ("25\\%", "26\\%"), ("2500", "25\\%"), ("0.25\\%", "25\\%"), ("50", "0.5"),
        ),
    ),
    Kind(
        "Bases",
        "A numeral with an index is its digits in that base. The index may be missing on one "
        "side.",
        (
            ("1101_{2}", "1101_2"), ("(1101)_2", "1101_2"), ("1101 \\text{ base }2", "1101_2"),
            ("1101", "1101_2"), ("1101_{\\text{base }2}", "1101_2"), ("1101_{(2)}", "1101_2"),
            ("1101_{two}", "1101_2"), ("2A_{16}", "2a_{16}"), ("77_{10}", "77"),
            ("FF_{16}", "ff_{16}"),
        ),
        (
            ("13", "1101_2"), ("1101_3", "1101_2"), ("1101_{10}", "1101_2"), ("12", "15_7"),
            ("x_1", "x_2"), ("\\text{not } 1101_2", "1101_2"), ("29_8", "29"),
        ),
    ),
    Kind(
        "Times and dates",
        "Texts, no arithmetic. Without am and pm on one side, those are passed over.",
        (
            ("12:00", "12:00"), ("7:15 AM", "7:15\\text{ a.m.}"), ("7:15", "7:15\\text{ a.m.}"),
            ("5:30\\text{ p.m.}", "5:30"), ("March 4", "\\text{March 4}"), ("4 March", "March 4"),
            ("July 4, 1776", "July 4 1776"), ("5 pm", "5:00 p.m."), ("3/14/2020", "3/14/2020"),
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
        ),
        (
            ("C", "B"), ("(B) 6", "(B) 5"), ("B and C", "B"), ("A or B", "A"), ("A, B, C, D", "B"),
            ("(A) (B) (C)", "B"), ("(C) or 5", "C"), ("\\text{(C)} \\text{ or } 5", "\\text{(C)}"),
            ("\\text{(C)} \\pm 5", "\\text{(C)}"), ("(C) 5 (D) 6", "C"), ("\\text{(C)}; 5", "(C)"),
            ("\\text{yes or no}", "yes"), ("6", "(B) 5"), ("e", "\\text{E}"),
            ("7", "\\text{eight}"), ("b+5", "B"),
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
        ),
        (
            ("\\text{not } 5", "5"), ("\\text{not } x = 5", "5"), ("\\text{not } \\approx 5", "5"),
            ("\\text{not} = 5", "5"), ("\\text{more than } 5", "5"), ("\\text{less than } 5", "5"),
            ("\\text{at least } 5", "\\text{at most } 5"), ("\\text{Room } 5", "5"),
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
        ),
        (
            ("y=5", "x=5"), ("f(2)=4", "f(3)=4"), ("x=x", "x=5"), ("x=x", "5"),
            ("0=0", "2x+4y-3=0"), ("2x=10", "x=5"), ("x^2=5", "5"), ("g(x)=2x", "f(x)=2x"),
            ("y=2x", "x=2y"), ("2x+3y=5", "2x+3y=6"), ("5=6", "5"), ("6=5", "5"),
            ("5 \\approx 6", "5"), ("\\sqrt2\\approx1.5", "\\sqrt2"), ("x=5=6", "5"),
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
        ),
        (
            ("5", "5, 7"), ("5, 7", "5"), ("x=5, 7", "5"), ("7 \\text{ or } 8", "7"),
            ("1,2,3,4,5,6,7,8,9,10", "7"), ("3,4,4", "3,4"), ("\\{1,2\\}", "\\{1,2,3\\}"),
            ("4", "\\pm 4"), ("1+2i", "1\\pm 2i"), ("5 \\pm 10^{-20}", "5"),
            ("1, 3, \\ldots, 2n-1", "1, 2, \\ldots, n"), ("(5,7)", "5, 7"), ("5,,7", "5,7"),
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
        ),
        (
            ("(4,3)", "(3,4)"),
            ("\\begin{pmatrix}3&4\\end{pmatrix}", "\\begin{pmatrix}3\\\\4\\end{pmatrix}"),
            ("(1,2)", "(3,4), (1,2)"), ("(5,5)", "5"), ("3, 4", "(3,4)"), ("()", "(0,0)"),
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
        ),
        (
            ("[1,2]", "(1,2)"), ("[1,2)", "[1,2]"), ("x \\le 5", "x \\geq 5"),
            ("x \\neq 5", "x = 5"), ("x>2", "x>3"), ("y\\in(3,5)", "3<x<5"),
            ("(-\\infty,\\infty)", "(3,5)"), ("[4,6]", "5"), ("4<x<6", "5"), ("0", "\\emptyset"),
            ("\\text{no}", "\\emptyset"), ("\\{0\\}", "\\emptyset"), ("(5,3)", "(3,5)"),
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
