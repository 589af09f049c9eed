"""Draws 200 images in 20 blocks and waits before the second one: `STORE GO`, a file."""

import pathlib
import sys
import time

from alexnet_jax import config
from alexnet_jax.data import open_split
from alexnet_jax.data.readers import shapes

shapes.COUNTS.update(train=200, test=60)
shapes._PIXELS = 640
draw, blocks = shapes.draw, list[int]()


def slow(split, index, size):
    blocks.append(len(index))
    print("drawing block", len(blocks), flush=True)
    end = time.monotonic() + 300
    while len(blocks) == 2 and not pathlib.Path(sys.argv[2]).exists() and time.monotonic() < end:
        time.sleep(0.02)
    return draw(split, index, size)


shapes.draw = slow
data = config.default().data
with data.unlocked():
    data.store, data.size = sys.argv[1], 8
split = open_split(data, "train", report=lambda line: print(line, flush=True))
print("opened", len(split), flush=True)
