"""Reads weights files of this project and of others, without running any code in them, and fits their content to a
config's network.

`read` recognises the format by the file's content.
"""

from __future__ import annotations

import pathlib

from alexnet_jax.errors import CheckpointError
from alexnet_jax.weight_files import caffe, cuda_convnet, state_dict
from alexnet_jax.weight_files.tensors import Network, mapped

__all__ = ["Network", "read"]

_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_READ = "a PyTorch state dict, a safetensors file, a Caffe .caffemodel or a checkpoint of cuda-convnet"
_OTHERS = {b"\x89HDF": f"an HDF5 file, which is not read; name {_READ}",
           b"\x1f\x8b": "compressed; unpack it first (gunzip)",
           b"\x08": f"perhaps an ONNX file, which is not read; name {_READ}"}


def read(path: str | pathlib.Path) -> Network:
    """The network in a weights file, whose format is recognised by its content.

    Raises:
      CheckpointError: the file is absent, damaged, or of an unknown format.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; name a weights file (in Python, weights.load takes a run's folder)")
    head = bytes(mapped(path)[:16])
    if head[:2] == b"PK" or head.startswith(_LEGACY_TORCH):
        return state_dict.read_torch(path)
    if head[8:9] == b"{":
        return state_dict.read_safetensors(path)
    if head[:1] in (b"\x80", b"}") or head[:2] in (b"(d", b"(i"):
        return cuda_convnet.read(path)
    if head[:1] in (b"\x0a", b"\x12", b"\xa2", b"\x1a"):
        return caffe.read(path)
    what = next((words for start, words in _OTHERS.items() if head.startswith(start)),
                f"a file of an unknown format; name {_READ}")
    raise CheckpointError(f"{path}: {what}")
