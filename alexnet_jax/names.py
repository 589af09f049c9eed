"""User-given names (datasets, classes, arms, files) are plain text, never markup of the output.

In pictures `inspect.lettering` keeps Matplotlib from reading formulas; on terminals Rich is told not to parse markup.
"""

from __future__ import annotations

import re
import unicodedata

# What moves the cursor, ends a line or turns the direction of the text: control signs, half surrogates, separators.
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MARKUP = re.compile(r"[\\`*\[\]<>|$~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


def plain(text: str) -> str:
    r"""`text` in one line; what can't be seen as Python writes it: '\n', '\x1b'."""
    if text.isprintable():
        return text
    return "".join(sign.encode("unicode_escape").decode()
                   if unicodedata.category(sign) in _UNSEEN or _TURNING.match(sign) else sign for sign in text)


def say(text: str) -> None:
    """Prints `text` as one line (`plain`)."""
    print(plain(text), flush=True)


def short(text: str, most: int, end: int = 0) -> str:
    """`text` in one line of at most `most` characters, cut with '…'; its last `end` characters are kept."""
    text = plain(text)
    return text if len(text) <= most else text[:most - 1 - end] + "…" + (text[-end:] if end else "")


def markdown(text: str) -> str:
    """`text` escaped for Markdown; underscores within words need no escape."""
    return _MARKUP.sub(lambda sign: "\\" + sign[0], plain(text))


def code(text: str) -> str:
    """`text` as code in Markdown, within as many backticks as needed."""
    text = plain(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return fence + space + text + space + fence
