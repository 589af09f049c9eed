"""Readers of weights files, this project's and others', none of which can run code, and the fitting of their content to
a config's network.

`read` recognises the format by the file's content.
"""

from __future__ import annotations

import pathlib

from alexnet_jax.errors import CheckpointError
from alexnet_jax.weight_files import caffe, cuda_convnet, state_dict
from alexnet_jax.weight_files.tensors import Network, mapped

__all__ = ["Network", "read"]

_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_OTHERS = {b"\x89HDF": "an HDF5 file; of Caffe's files .caffemodel is read",
           b"\x1f\x8b": "compressed; unpack it first (gunzip)", b"\x08": "perhaps an ONNX file, which is written here "
           "and not read"}


def read(path: str | pathlib.Path) -> Network:
    """The network that a weights file holds, its format told by its content.

    Raises:
      CheckpointError: absent, damaged, or of no format that is known.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; name a weights file (weights.load takes a run's folder too)")
    head = bytes(mapped(path)[:16])
    if head[:2] == b"PK" or head.startswith(_LEGACY_TORCH):
        return state_dict.read_torch(path)
    if head[8:9] == b"{":
        return state_dict.read_safetensors(path)
    if head[:1] in (b"\x80", b"}") or head[:2] in (b"(d", b"(i"):
        return cuda_convnet.read(path)
    if head[:1] in (b"\x0a", b"\x12", b"\xa2", b"\x1a"):
        return caffe.read(path)
    what = next((words for start, words in _OTHERS.items() if head.startswith(start)), "no file of a format that is "
                "known: PyTorch's state dict, safetensors, Caffe's caffemodel, cuda-convnet's checkpoint")
    raise CheckpointError(f"{path}: {what}")
