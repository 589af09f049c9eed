"""What importing another project's full network costs: the command's peak memory and processor time, by kind of file.

    python tests/import_memory.py FOLDER

makes weights files of random numbers there (some 1.5 GB with the runs), imports each by `python -m alexnet_jax.weights
import`, and beside it a tiny network from a file of the same kind: what any such process needs. Needs PyTorch. Not a
test; docs/weights.md says what it printed.
"""

import os
import pathlib
import subprocess
import sys
import typing

HERE = pathlib.Path(__file__).resolve().parent
FULL, TINY = ((96, 256, 384, 384, 256), 4096, 1000), ((8, 16, 16, 16, 8), 24, 12)
KINDS = {"torchvision.safetensors": "torchvision", "torchvision.pth": "torchvision",
         "bvlc_alexnet.caffemodel": "bvlc_alexnet", "cuda-convnet": "imagenet_released"}  # {file: config}


class Cost(typing.NamedTuple):
    megabytes: float  # the most that was resident
    seconds: float  # of the processor


def sizes(kind: str, tiny: bool) -> tuple[tuple[int, ...], int, int]:
    """(kernels of conv1 to conv5, units of fc6 and fc7, classes)."""
    if tiny or KINDS[kind] != "torchvision":
        return TINY if tiny else FULL
    return (64, 192, 384, 256, 256), *FULL[1:]


def make(path: pathlib.Path, kind: str, tiny: bool) -> None:
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    import reference_networks as reference
    import torch
    import weights_files
    from safetensors.numpy import save_file
    from test_weights_import import caffe_layers

    from alexnet_jax.weight_files import state_dict

    kernels, biases = reference.random_weights(reference.shapes(*sizes(kind, tiny), 1 if "torchvision" in kind else 2))
    state = {f"{place}.{leaf}": (kernels if leaf == "weight" else biases)[layer]
             for layer, place in state_dict.TORCHVISION.items() for leaf in ("weight", "bias")}
    if kind == "torchvision.safetensors":
        save_file(state, path)
    elif kind == "torchvision.pth":
        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, path)
    elif kind == "bvlc_alexnet.caffemodel":
        path.write_bytes(weights_files.caffemodel(caffe_layers(kernels, biases, pool_first=False)))
    else:
        path.write_bytes(weights_files.checkpoint(weights_files.two_columns(kernels, biases)))


def measure(path: pathlib.Path, kind: str, tiny: bool) -> Cost:
    """Imports the file into the folder `<path>.run` in a process of its own. Raises CalledProcessError."""
    convolutions, dense, classes = sizes(kind, tiny)
    fields = {f"conv{i}.features": n for i, n in enumerate(convolutions, 1)}
    fields |= {"fc6.features": dense, "fc7.features": dense, "classes": classes}
    command = [sys.executable, "-m", "alexnet_jax.weights", "import", f"--from={path}", f"--workdir={path}.run",
               f"--config=configs/{KINDS[kind]}.py", "--mean=123,117,104",
               *(f"--config.model.{name}={value}" for name, value in fields.items())]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(HERE.parent)}, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # of this process alone, where RUSAGE_CHILDREN has the most of all
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(used.ru_maxrss * 1024 / 1e6, used.ru_utime + used.ru_stime)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    if sys.argv[2:]:  # in a process of its own: a measured one begins with the size of the one that starts it
        make(folder / sys.argv[2], sys.argv[2].removeprefix("tiny-"), sys.argv[2].startswith("tiny-"))
        return
    folder.mkdir(parents=True, exist_ok=True)
    print("| file | size | peak | of a tiny network | beyond it, times the size | processor seconds |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        found = []
        for tiny in (True, False):
            path = folder / ("tiny-" * tiny + kind)
            subprocess.run([sys.executable, __file__, str(folder), path.name], check=True)
            found.append(measure(path, kind, tiny))
        size = path.stat().st_size / 1e6
        small, whole = found
        print(f"| {kind} | {size:.0f} MB | {whole.megabytes:.0f} MB | {small.megabytes:.0f} MB | "
              f"{(whole.megabytes - small.megabytes) / size:.1f} | {whole.seconds:.1f} |")


if __name__ == "__main__":
    main()
