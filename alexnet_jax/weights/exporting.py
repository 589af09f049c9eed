"""Exports a run's network: `python -m alexnet_jax.weights export --workdir=runs/one --to=one.safetensors`.

The ending of --to chooses the format:

.safetensors  this project's own parameters, with config, classes, mean and revision: all that import needs
.pth          a PyTorch state dict: torchvision's, if the network is torchvision's alexnet; else one that
              examples/torch_alexnet.py loads, with config, classes and mean
.onnx         a function from crops, pixels from 0 to 255, to logits; the mean is part of it (needs onnx)
.stablehlo    the same function by jax.export, for a batch of --batch images

--layout is for .safetensors and .pth: torchvision asks for torchvision's names, columns for conv1.weight, …, both in
PyTorch's order of axes. A network that the format or the layout cannot express is refused.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import commands, environment, files, names, networks
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from alexnet_jax.weight_files.state_dict import TORCHVISION
from alexnet_jax.weights.exported import Exported

LAYOUTS = ("auto", "torchvision", "columns")
# Fields in which each layer has to equal torchvision's.
_SHARED = ("columns", "features", "in_features", "size", "out_size", "kernel", "stride", "padding", "lrn", "pool")


def of_run(folder: pathlib.Path) -> Exported:
    """The network in a run's folder. Raises as `trained.Trained` does."""
    from alexnet_jax.inspect.trained import Trained  # JAX starts here

    network = Trained(folder)
    consts = network.consts
    git = network.about.get("git")
    git = git if isinstance(git, dict) else {}
    about = {"revision": str(git.get("revision", "unknown")) + (", changed" if git.get("dirty") else ""),
             "run": str(network.about.get("id", "")), "step": str(network.step)}
    return Exported(network.config, network.params, np.asarray(consts.mean), np.asarray(consts.colour),
                    {"keys": list(network.known.keys), "names": list(network.known.names)}, about)


def difference_from_torchvision(config: ConfigDict, classes: int) -> str:
    """Why torchvision's alexnet is not this network; '' if it is."""
    reference = config_lib.default()
    networks.torchvision(reference)
    theirs = geometry.layers(config_lib.override(reference, {"optim.schedule": "constant", "data.crop": 224}), classes)
    ours = geometry.layers(config, classes)
    if [x.name for x in ours] != [x.name for x in theirs]:
        return f"the layers here are {', '.join(x.name for x in ours)}; torchvision's alexnet has all eight"
    for mine, other in zip(ours, theirs, strict=True):
        for field in _SHARED:
            # Another crop is possible: adaptive pooling there makes 6 × 6 of any map, and leaves 6 × 6 unchanged.
            if config.data.crop != 224 and (field in ("size", "padding") or (field == "out_size"
                                                                             and mine.name != "conv5")):
                continue
            if getattr(mine, field) != getattr(other, field):
                return (f"{mine.name}'s {field} is {getattr(mine, field)!r} here and {getattr(other, field)!r} in "
                        "torchvision's alexnet")
    model = config.model
    if (model.activation, model.pool.window, model.pool.stride) != ("relu", 3, 2):
        return "torchvision's alexnet has config.model.activation=relu and pooling of window 3 and stride 2"
    if model.dropout and model.dropout_layers and model.dropout_scale == "test":
        return "torchvision's alexnet doesn't scale outputs at test (config.model.dropout_scale=train)"
    return ""


def write(network: Exported, path: pathlib.Path, layout: str = "auto", batch: int = 1) -> None:
    """Writes the file in the format of its ending, in one move.

    Raises:
      ConfigError: an unknown ending, or a network that the format cannot express.
    """
    writers: dict[str, Callable[[pathlib.Path], None]] = {
        ".safetensors": lambda to: _safetensors(network, to, layout), ".pth": lambda to: _torch(network, to, layout),
        ".onnx": lambda to: _onnx(network, to), ".stablehlo": lambda to: _stablehlo(network, to, batch)}
    writer = writers.get(path.suffix)
    if writer is None:
        raise ConfigError(f"--to={path}: the name has to end in {', '.join(writers)}, which chooses the format")
    if layout != "auto" and path.suffix not in (".safetensors", ".pth"):
        raise ConfigError(f"--layout={layout}: only for .safetensors and .pth; leave it out")
    if layout == "torchvision" and (why := difference_from_torchvision(network.config, len(network.classes["keys"]))):
        raise ConfigError(f"--layout=torchvision: {why}; --layout=columns writes any network")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # of any new file; safetensors' library makes files that nobody else may read
        writer(temporary)
        temporary.chmod(mode)


def _state(network: Exported, layout: str) -> tuple[dict[str, np.ndarray], bool]:
    """(state dict, is it torchvision's?)."""
    if layout == "auto":
        differs = difference_from_torchvision(network.config, len(network.classes["keys"]))
        layout = "columns" if differs else "torchvision"
    theirs = layout == "torchvision"
    norm = network.config.model.same_map
    if any(x.same_map for x in network.layers) and norm.size % 2 == 0:
        raise ConfigError(f"config.model.same_map.size: {norm.size} is even, which PyTorch's layers cannot express; "
                          "export as .onnx, .stablehlo or .safetensors without --layout")
    return {f"{TORCHVISION[name] if theirs else name}.{leaf}": array for name, both in network.channels_first().items()
            for leaf, array in zip(("weight", "bias"), both, strict=True)}, theirs


def _safetensors(network: Exported, path: pathlib.Path, layout: str) -> None:
    from safetensors.numpy import save_file

    if layout != "auto":  # a state dict, under the names of PyTorch's
        save_file(_state(network, layout)[0], path, network.metadata | {"format": "pt"})
        return
    tensors = {f"{name}.{leaf}": np.asarray(array) for name, leaves in network.params.items()
               for leaf, array in leaves.items()} | {"input.mean": network.mean, "input.colour": network.colour}
    # The library writes an array's memory as it is, whatever the order of axes.
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, network.metadata)


def _torch(network: Exported, path: pathlib.Path, layout: str) -> None:
    try:
        import torch
    except ImportError:
        raise ConfigError("--to=….pth: PyTorch, which writes such files, is not installed here; pip install torch, or "
                          "choose .safetensors") from None
    state, torchvisions = _state(network, layout)
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    if torchvisions:  # nothing else, so that load_state_dict takes the file as it is
        torch.save(tensors, path)
        return
    about = network.metadata
    torch.save({"state_dict": tensors, "config": json.loads(about["config"]), "classes": json.loads(about["classes"]),
                "input": {"mean": torch.from_numpy(np.array(network.mean)),
                          "colour": torch.from_numpy(np.array(network.colour))},
                "revision": about["revision"]}, path)


def _onnx(network: Exported, path: pathlib.Path) -> None:
    try:
        import onnx
    except ImportError:
        raise ConfigError("--to=….onnx: onnx, which writes such files, is not installed here; pip install -c "
                          "constraints.txt -e '.[export]'") from None
    from alexnet_jax.weights import onnx_graph

    model = onnx_graph.model(network)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _stablehlo(network: Exported, path: pathlib.Path, batch: int) -> None:
    import jax
    import jax.numpy as jnp

    from alexnet_jax.parallel.mesh import make_mesh
    from alexnet_jax.training.program import Program

    config = network.config
    program = Program(config, len(network.classes["keys"]), make_mesh(config, jax.devices()[:1]))
    params = jax.tree.map(np.asarray, dict(network.params))
    mean, divide = network.crop_mean()[None], np.asarray(config.augment.divide or (1.0,), np.float32)[None, None, None]

    def logits(images):  # float32 [batch, crop, crop, 3], red, green, blue, 0 to 255
        x = images @ _grey() if config.augment.grey else images
        return program.model(params)((x - mean) / divide)

    like = jax.ShapeDtypeStruct((batch, config.data.crop, config.data.crop, 3), jnp.float32)
    with jax.default_matmul_precision("float32"):
        exported = jax.export.export(jax.jit(logits), platforms=("cpu", "cuda", "tpu"))(like)
    path.write_bytes(exported.serialize())


def _grey() -> np.ndarray:
    from alexnet_jax.training.augment import LUMA

    return np.asarray(LUMA, np.float32)[:, None]


def main(argv: Sequence[str] | None = None) -> None:
    parser = commands.Parser("alexnet_jax.weights export", __doc__)
    parser.add_workdir("RUN", "the run's folder")
    parser.add_argument("--to", type=pathlib.Path, required=True, help="the file; its ending chooses the format")
    parser.add_argument("--layout", choices=LAYOUTS, default="auto", help="names and axes of .safetensors and .pth")
    parser.add_argument("--batch", type=commands.whole_number, default=1, help="images of a call of .stablehlo")
    options = parser.parse_args(argv)
    environment.prepare()
    network = of_run(options.workdir)
    write(network, options.to, options.layout, options.batch)
    names.say(f"{options.to}: {options.to.stat().st_size:,} bytes; revision {network.about['revision'][:12]}, step "
          f"{network.about['step']}")
