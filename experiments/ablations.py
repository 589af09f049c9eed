"""The catalogue of ablations, under its public name: `from experiments.ablations import Arm`."""

from experiments.sweep.ablations import BASELINE, CATALOGUE, Arm, Search, ablation, arms_of

__all__ = ["BASELINE", "CATALOGUE", "Arm", "Search", "ablation", "arms_of"]
