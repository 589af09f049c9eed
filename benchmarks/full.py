"""A training step of the full network, each recipe, with and without LRN, compared with PyTorch.

    python -m benchmarks.full --out=benchmarks/results/full.json
    python -m benchmarks.full --only paper --batch 64 128

Default batch: 64 on a CPU; 128, 512 and 2048 on a GPU. About half a minute per network and round on two cores.
"""

from benchmarks import networks, racing

table = racing.table

if __name__ == "__main__":
    racing.script("full", __doc__, networks.FULL, on_cpu=[64], on_gpu=[128, 512, 2048], rounds=7)
