"""Draws 200 images in 20 blocks with pauses: `STORE PAUSE`."""

import sys
import time

from alexnet_jax import config
from alexnet_jax.data import open_split
from alexnet_jax.data.readers import shapes

shapes.COUNTS.update(train=200, test=60)
shapes._PIXELS = 640
draw = shapes.draw


def slow(*arguments):
    print("drawing", flush=True)
    time.sleep(float(sys.argv[2]))
    return draw(*arguments)


shapes.draw = slow
data = config.default().data
with data.unlocked():
    data.store, data.size = sys.argv[1], 8
split = open_split(data, "train", report=lambda line: print(line, flush=True))
print("opened", len(split), flush=True)
