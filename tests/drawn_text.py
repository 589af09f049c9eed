"""The layout of a figure's text: the texts that are actually drawn, with their boxes."""

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text

from experiments.figures import style


class _Recorder(RendererAgg):
    def __init__(self, figure):
        super().__init__(*(round(x) for x in figure.bbox.size), figure.dpi)
        self.texts = []

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        if mtext is not None and s.strip("\u200b ") and mtext not in self.texts:
            self.texts.append(mtext)
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)


def texts(figure):
    """[(text, box in dots)] of all that is drawn: no ticks beyond their axis."""
    with style.matplotlib.rc_context(style.STYLE):
        recorder = _Recorder(figure)
        figure.draw(recorder)
        # An annotation's own extent has its arrow in it.
        return [(text.get_text(), Text.get_window_extent(text, recorder)) for text in recorder.texts]


def faults(figure):
    """What leaves the canvas or overlaps, in words; [] in a good figure."""
    found, page, bad = texts(figure), figure.bbox, []
    for i, (text, box) in enumerate(found):
        if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0 or box.y1 > page.y1:
            bad.append(f"{text!r} leaves the canvas: {box.extents.round(1)} of {page.extents.round(1)}")
        # A dot's breadth: boxes of lines below each other touch.
        bad += [f"{text!r} overlaps {other!r}" for other, there in found[:i]
                if min(box.x1, there.x1) - max(box.x0, there.x0) > 1 and
                min(box.y1, there.y1) - max(box.y0, there.y0) > 1]
    return bad
