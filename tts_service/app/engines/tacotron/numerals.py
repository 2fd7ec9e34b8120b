"""Whole numbers as English words, exactly as the text front end of the checkpoints says them.

Coqui asks the package `inflect`; what is used of it is small enough to say here, and is compared
with it number by number in the tests that have Coqui.
"""

from __future__ import annotations

_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_UNITS = f"zero one two three four five six seven eight nine {_TEENS}".split()
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_LARGE = "quadrillion quintillion sextillion septillion octillion nonillion decillion"
_POWERS = f"one thousand million billion trillion {_LARGE}".split()
_IRREGULAR = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
LARGEST_DIGITS = 3 * len(_POWERS)
"""Numbers with more digits have no name here."""


def cardinal(number: int, *, and_: bool = True) -> str:
    """`1234` is "one thousand, two hundred and thirty-four"; without `and_` there is no "and".

    Raises `OverflowError` beyond 36 digits.
    """
    if number < 0:
        return "minus " + cardinal(-number, and_=and_)
    if number == 0:
        return _UNITS[0]
    if len(str(number)) > LARGEST_DIGITS:
        raise OverflowError(f"no name for a number of {len(str(number))} digits")
    groups: list[str] = []
    rest, power = number, 0
    while rest:
        rest, group = divmod(rest, 1000)
        if group:
            words = _below_thousand(group, and_=and_)
            groups.append(words if power == 0 else f"{words} {_POWERS[power]}")
        power += 1
    groups.reverse()
    if len(groups) > 1 and 0 < number % 1000 < 100:
        last = groups.pop()
        return f"{', '.join(groups)}{' and' if and_ else ''} {last}"
    return ", ".join(groups)


def ordinal(number: int) -> str:
    """`21` is "twenty-first"."""
    words = cardinal(number)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[cut:]
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return words[:cut] + last


def pairs(number: int) -> str:
    """A year as it is read, two digits at a time: `1905` is "nineteen oh five"."""
    digits = str(number)
    words = []
    for start in range(0, len(digits), 2):
        pair = digits[start : start + 2]
        if len(pair) == 1:
            words.append(_digit(pair))
        elif pair[0] == "0":
            words.append(f"oh {_digit(pair[1])}")
        else:
            words.append(_below_hundred(int(pair)))
    return " ".join(words)


def spelled(number: int) -> str:
    """Digit by digit, for numbers that have no name."""
    sign = "minus " if number < 0 else ""
    return sign + " ".join(_UNITS[int(digit)] for digit in str(abs(number)))


def _digit(digit: str) -> str:
    return "oh" if digit == "0" else _UNITS[int(digit)]


def _below_hundred(number: int) -> str:
    if number < 20:
        return _UNITS[number]
    tens, units = divmod(number, 10)
    return _TENS[tens] + (f"-{_UNITS[units]}" if units else "")


def _below_thousand(number: int, *, and_: bool) -> str:
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _below_hundred(rest)
    words = f"{_UNITS[hundreds]} hundred"
    if not rest:
        return words
    return f"{words} {'and ' if and_ else ''}{_below_hundred(rest)}"
