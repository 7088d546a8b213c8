"""Numbers in every spelling with their right verdicts; the rest is in ``answer_pairs``."""

from typing import NamedTuple

Pairs = tuple[tuple[str, str], ...]


class Kind(NamedTuple):
    title: str
    rule: str
    accepted: Pairs
    refused: Pairs


NUMBER_KINDS = (
    Kind(
        "Numbers side by side",
        "A space, `\\,`, `\\ `, `~` or `,` between groups of three digits separates thousands. A "
        "whole number, a space and a fraction below 1 is a mixed number. Any other two numbers "
        "side by side are no number, braces or not.",
        (
            ("12\\,345", "12345"), ("12 345", "12345"), ("98~765~432", "98765432"),
            ("1\\;000\\;000", "1000000"), ("12{,}345", "12345"), ("12,\\!345", "12345"),
            ("7'654", "7654"), ("1 1/4", "5/4"), ("3\\ 1/2", "\\frac72"), ("2 ¼", "\\frac94"),
            ("-2\\frac{1}{2}", "-2.5"), ("5\\tfrac{2}{3}", "\\frac{17}{3}"), ("(2)(3)", "6"),
            ("2\\pi\\sqrt{3}", "\\sqrt{12}\\pi"), ("(n-2) 2^{n}", "2^n(n-2)"),
            ("\\frac{10!}{3!7!}", "120"),
        ),
        (
            ("3 4", "7"), ("1 2 3", "6"), ("2 1/4", "3/4"), ("98 76", "9876"), ("9 8", "98"),
            ("100\\,50", "150"), ("1\\,000", "1"), ("3 4", "12"),
            ("3\\frac{5}{4}", "\\frac{17}{4}"), ("2^{3}\\frac{1}{4}", "2"),
            ("\\frac12\\frac13", "\\frac56"), ("\\sqrt2 3", "3\\sqrt2"), ("12,34", "1234"),
            ("1,2", "12"), ("123,456", "123, 456"), ("3 (4)", "12"),
            ("2{3}", "6"), ("{2}{3}", "6"), ("\\mathbf{2}\\mathbf{3}", "6"), ("5 [3]", "15"),
            ("5 \\times", "5"), ("\\cdot 5", "5"),
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
            ("2^{(3^2)}", "512"), ("(3!)!", "720"), ("n!^2", "(n!)^2"),
        ),
        (
            ("\\frac{3}{10^{30}}", "\\frac{10^{30}-1}{10^{30}}"), ("10^{20}", "\\sqrt{10^{40}+1}"),
            ("10^{200}", "\\sqrt{10^{400}+1}"), ("0.0", "0.0000001"), ("0", "10^{-7}"),
            ("\\frac{1}{2^{98}}", "\\frac{1}{2^{99}}"), ("\\pi+10^{-40}", "\\pi"),
            ("10^{-99}", "e^{-100}"), ("\\frac{1}{10^{50}}", "0"),
            ("262537412640768744", "e^{\\pi\\sqrt{163}}"), ("9^{9^{9^9}}", "9^{9^{9^8}}"),
            ("\\frac{0}{0}", "0"), ("\\frac{1}{0}", "\\infty"), ("\\infty", "0"), ("nan", "0"),
            ("\\infty-\\infty", "0"), ("--8", "8"), ("8+", "8"),
            ("2^3^2", "64"), ("2^{3}^{2}", "64"), ("3!!", "720"), ("2^3!", "40320"), ("0^0", "1"),
            ("\\frac{1}{\\infty}", "0"), ("e^{-\\infty}", "0"),
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
            ("10⁻³", "0.001"), ("1.5 million", "1500000"),
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
            ("{\\bf 73}", "73"), ("\\fbox{73}", "73"), ("73 \\quad \\blacksquare", "73"),
            ("x¹²", "x^{12}"),
        ),
        (
            ("٣", "3"), ("0\u0660", "0"), ("3\u202e2", "32"), ("О", "0"), ("O", "0"), ("l", "1"),
            ("\\text{}", "0"), ("-", "0"), ("?", "0"), ("\\mathrm{e}", "e^2"),
            ("\\displaystyle.5", "5"), ("\\rm.5", "5"), ("2²³", "64"),
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
            ("5/\\text{hour}", "5"), ("5^\\circ C", "5"), ("5\\,\\mu\\text{m}", "5"),
            ("US\\$5", "5"), ("₹5", "5"), ("12¢", "12"), ("\\$5\\text{ million}", "5000000"),
        ),
        (
            ("5 m", "5 cm"), ("500\\text{ cm}", "5\\text{ m}"), ("7\\text{ cm}^2", "7\\text{ cm}"),
            ("€7", "\\$7"), ("700 cents", "\\$7"), ("7 hours", "7 minutes"),
            ("\\sin 30", "\\frac12"), ("5 apples", "5 pears"), ("\\frac{\\pi}{4}", "45"),
            ("5\\text{ million}", "5"), ("5 hundred dollars", "5"), ("5\\text{ squared}", "5"),
            ("5\\text{ tenths}", "5"), ("5\\text{ plus two}", "5"), ("5 (million)", "5"),
            ("5^\\circ C", "5^\\circ F"),
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
)  # fmt: skip
