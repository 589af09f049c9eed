"""Data: packed stores of uint8 images, the splits that a config names, and batches of them.

`open_splits` is the way in for a run, `open_split` for one split. Opening a store that exists needs numpy and nothing
else; only building one imports what its reader needs, such as TFDS or Pillow.
"""

from alexnet_jax.data.classes import Classes
from alexnet_jax.data.opening import (
    FIELDS,
    check_splits,
    check_store,
    classes_of,
    downloads,
    find,
    naming,
    open_split,
    open_splits,
)
from alexnet_jax.data.split import Split
from alexnet_jax.data.statistics import Statistics

__all__ = ["FIELDS", "Classes", "Split", "Statistics", "check_splits", "check_store", "classes_of", "downloads", "find",
           "naming", "open_split", "open_splits"]
