"""Names in pictures: which fonts can write them here, how wide they are, and how they are cut to fit.

Names may have any characters. Those that Matplotlib's own font lacks come from another font of this machine; those
that no font has are transliterated to Latin letters, and the picture says so. Import it after
`environment.prepare_matplotlib`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, get_font

from alexnet_jax import names

OWN = "DejaVu Sans"  # comes with Matplotlib
# Asked first for what it lacks: they have Chinese, Japanese and Korean signs, and go with it.
_FIRST = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Source Han Sans",
          "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAGothic", "Droid Sans Fallback", "Unifont", "Hiragino Sans",
          "PingFang SC", "Arial Unicode MS", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic")
_NO_LETTERS = ("last resort", "emoji", "stix", "dejavu")  # boxes for everything, pictures, formulas, the own font
_DOTS = 300  # an inch, to measure at
_SLACK = 1.03  # at fewer dots letters are set on whole ones, and a line grows
NOTE = "Characters that no font here has are written in Latin letters."
NUMBERS = "Characters that no font here has are written as their code points."


@functools.cache
def _families() -> dict[str, str]:
    """{family: file} of the machine's other fonts, in the order in which they are tried."""
    found = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)
             if not any(word in font.name.lower() for word in _NO_LETTERS) and not font.name.startswith("cm")}
    return {name: found[name] for name in (*_FIRST, *sorted(found)) if name in found}


@functools.cache
def _signs(file: str) -> frozenset[int]:
    with contextlib.suppress(OSError, RuntimeError):
        font = get_font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    return frozenset()


@functools.cache
def _family(sign: str) -> str | None:
    """The font family for a character; None: no font here has it."""
    if ord(sign) in _signs(font_manager.findfont(OWN)) or not sign.isprintable():
        return OWN
    return next((name for name, file in _families().items() if ord(sign) in _signs(file)), None)


@functools.lru_cache(maxsize=20_000)
def _width(text: str, size: float, weight: str, family: tuple[str, ...]) -> float:
    font = FontProperties(family=list(family), size=size, weight=weight)
    return _SLACK * _renderer().get_text_width_height_descent(text, font, ismath=False)[0] / _DOTS


@functools.cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, _DOTS)


def _latin() -> Callable[[str], str] | None:
    """A sign in Latin letters; None where the package isn't there, as on machines that are lent."""
    try:
        from anyascii import anyascii
    except ModuleNotFoundError:
        return None
    return anyascii


class Letters:
    """How the names in a picture are written.

    Args:
      texts: all names that it will have; `note` is '' or a sentence for it on how they are written.
    """

    def __init__(self, texts: Iterable[str] = ()):
        signs = sorted(set("".join(map(names.plain, texts))))
        found = {sign: _family(sign) for sign in signs}
        lacking = [sign for sign, family in found.items() if family is None]
        latin = _latin() if lacking else None
        self._latin = {ord(sign): latin(sign) if latin else f"[{ord(sign):X}]" for sign in lacking}
        self.family = (OWN, *dict.fromkeys(family for family in found.values() if family not in (None, OWN)))
        self.note = "" if not lacking else NOTE if latin else NUMBERS

    @contextlib.contextmanager
    def style(self, style: Any) -> Iterator[None]:
        """Matplotlib's settings: `style` in these letters; a name with two dollars is no formula, whatever the user's
        own settings are."""
        with matplotlib.rc_context({**style, "font.family": list(self.family), "text.parse_math": False,
                                    "text.usetex": False}):
            yield

    def write(self, text: str) -> str:
        """A name in one line, as it can be written here."""
        return names.plain(text).translate(self._latin)

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """Inches of one line in `size` points."""
        return _width(text, size, weight, self.family)

    def fitted(self, text: str, inches: float, size: float, weight: str = "normal", end: float = 0.5) -> str:
        """A name in one line no longer than that: its beginning and its end, with '…' for what had to go.

        `end`: which part of what stays is from the end.
        """
        text = self.write(text)
        if self.width(text, size, weight) <= inches:
            return text

        def cut(kept: int) -> str:
            last = int(end * kept)
            return text[:kept - last] + "…" + text[len(text) - last:]

        low, high = 0, len(text) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(cut(middle), size, weight) <= inches else (low, middle - 1)
        return cut(low)

    def wrapped(self, text: str, inches: float, size: float, weight: str = "normal", most: int = 0,
                end: float = 0.5) -> list[str]:
        """A text with names in it as lines no longer than that; longer words are cut.

        `most`: lines; the last one is `fitted`.
        """
        lines: list[str] = []
        rest = self.write(text).strip()
        while rest:
            if len(lines) + 1 == most:
                return [*lines, self.fitted(rest, inches, size, weight, end)]
            taken = self._line(rest, inches, size, weight)
            lines.append(rest[:taken].rstrip())
            rest = rest[taken:].lstrip()
        return lines

    def _line(self, text: str, inches: float, size: float, weight: str) -> int:
        """How many signs of a text its first line takes."""
        if self.width(text, size, weight) <= inches:
            return len(text)
        low, high = 1, len(text) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle], size, weight) <= inches else (low, middle - 1)
        space = text.rfind(" ", 0, low + 1)
        joint = 1 + max(text.rfind(sign, 0, low) for sign in "_-/:,")  # of a long word
        return space if space > 0 else joint if joint > low // 2 else low
