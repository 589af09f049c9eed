"""The network as a picture in the manner of the paper's figure 2: each column a row of boxes, arrows between them."""

from __future__ import annotations

import pathlib

from ml_collections import ConfigDict

from alexnet_jax import environment
from alexnet_jax.models import geometry

_COLOURS = ("#1f4e79", "#b5521b", "#2e7d4f", "#6b3d8f")
_ROW, _GAP = 3.4, 1.5  # heights and widths are in units of the drawing; the largest map is 2.2 high


def draw(config: ConfigDict, classes: int, file: pathlib.Path) -> None:
    """Writes the picture.

    A box is a layer's output in one column, before its pooling: its height the map's side (by the square root), its
    width the channels (likewise). Arrows are what a layer reads: from its own column, or from all.

    Raises:
      ConfigError: impossible shapes.
    """
    environment.prepare_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, Rectangle

    layers = geometry.layers(config, classes)
    columns, crop = config.model.columns, config.data.crop
    tall = 2.2 / crop**0.5
    wide = 0.9 / max(x.features for x in layers if x.is_conv or not x.is_output) ** 0.5
    middle = -(columns - 1) * _ROW / 2
    sizes = [(0.12, 2.2), *((max(wide * x.features**0.5, 0.15), max(tall * x.size**0.5, 0.3) if x.is_conv else 1.7)
                            for x in layers)]
    width = sum(w + _GAP for w, _ in sizes)

    figure = Figure(figsize=(0.85 * (width - _GAP + 0.9), 0.85 * ((columns - 1) * _ROW + 3.8)))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-0.5, width - _GAP + 0.4)
    axes.set_ylim(-(columns - 1) * _ROW - 1.9, 1.9)

    def box(x, y, w, h, text, colour):
        axes.add_patch(Rectangle((x, y - h / 2), w, h, facecolor=colour, alpha=0.25, edgecolor=colour, linewidth=1.4))
        axes.text(x + w / 2, y - h / 2 - 0.14, text, ha="center", va="top", fontsize=8.5, color="#222222", zorder=3,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1})

    def arrow(start, end, colour, across):
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=colour, shrinkA=2,
                                       shrinkB=2, linewidth=1.8 if across else 1.1, linestyle="--" if across else "-"))

    box(0, middle, *sizes[0], f"image\n{crop}×{crop}×{1 if config.augment.grey else 3}", "#555555")
    x, before = sizes[0][0] + _GAP, [(sizes[0][0], middle)] * columns
    for layer, (w, h) in zip(layers, sizes[1:], strict=True):
        rows = [middle] if layer.is_output else [-i * _ROW for i in range(columns)]
        here = f"{layer.size}×{layer.size}×{layer.features}" if layer.is_conv else f"{layer.features:,}"
        for i, y in enumerate(rows):
            colour = "#555555" if layer.is_output else _COLOURS[i % len(_COLOURS)]
            box(x, y, w, h, f"{layer.name}\n{here}", colour)
            for j, start in enumerate(before):
                own = layer.is_output or i == j or layer.sees == "image"
                if layer.sees == "all columns" or i == j:
                    arrow(start, (x, y), _COLOURS[j % len(_COLOURS)] if layer.sees != "image" else "#555555", not own)
        if layer.pool:
            axes.text(x + w + _GAP / 2, rows[0] + 0.2, f"{layer.pool} pool", ha="center", fontsize=7.5,
                      color="#666666")
        before = [(x + w, y) for y in rows]
        x += w + _GAP
    total = sum(layer.parameters for layer in layers)
    what = f"{columns} columns; dashed: what they exchange" if columns > 1 else "one column"
    axes.text(-0.3, 1.55, f"{total:,} parameters, {what}", fontsize=11, color="#222222")
    with matplotlib.rc_context({"svg.hashsalt": "alexnet"}):
        figure.savefig(file, dpi=160, facecolor="white", metadata={"Date": None} if file.suffix == ".svg" else None)
