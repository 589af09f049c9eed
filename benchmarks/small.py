"""A training step of the 32- and 64-pixel networks, the four-layer net and the conv-local nets, compared with PyTorch.

    python -m benchmarks.small --out=benchmarks/results/small.json

Default batch: 128 on a CPU; 128 and 1024 on a GPU.
"""

from benchmarks import networks, racing

table = racing.table

if __name__ == "__main__":
    racing.script("small", __doc__, networks.SMALL, on_cpu=[128], on_gpu=[128, 1024], rounds=9)
