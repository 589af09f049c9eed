"""The regimes that claims are measured in, and the family that a plan declared for one of them.

Any other record in experiments/results is a regime of its own, named after its folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from experiments.analysis.families import DESCRIPTIVE, Family
from experiments.claims.record import Claim, Regime

_ERROR = ("no_lrn", "nonoverlapping", "no_pca", "one_column", "no_exchange", "lrn_first", "no_conv3", "no_conv4",
          "no_conv5")
_GAP = ("no_dropout", "no_augmentation", "no_crops", "no_mirrors", "nonoverlapping")
FIRST = Family("the first quantities of docs/evidence-plan.md", (
    *((arm, "error") for arm in _ERROR), *((arm, "gap") for arm in _GAP), ("no_decay", "fit")))

_FOLDED = "30,000 images, the last third on 40,000"  # configs/conv_local.py: batch 4 is folded in

# docs/evidence-plan.md: A1 and A2, B1, C, D, E, F, G and H. The runs that complete A2 are from two CPUs, each with its
# own baselines.
PAPER_LIKE_30 = Regime("90 epochs on 12,000 images, the paper's parameters an image",
                       ("paper_like_30_seeds", "paper_like_10_seeds", "paper_like_cpu_xeon", "paper_like_cpu"),
                       "configs/sweeps/paper_like_30_seeds.py", seeds=30, family=FIRST)
PAPER_LIKE_10 = dataclasses.replace(PAPER_LIKE_30, sweep="configs/sweeps/paper_like_10_seeds.py", seeds=10)
HUNDRED_CLASSES = Regime("90 epochs on 40,000 images of 100 classes", ("tiny_imagenet_paper_like",),
                         "configs/sweeps/tiny_imagenet_paper_like.py", seeds=5)
SECOND_IMAGES = Regime("90 epochs on 12,000 other images", ("paper_like_second_images",),
                       "configs/sweeps/paper_like_second_images.py", seeds=5, family=DESCRIPTIVE)
EARLY = Regime("one epoch on 40,000 images at a constant rate", ("early_learning",),
               "configs/sweeps/early_learning.py", whole=True, seeds=30, family=DESCRIPTIVE)
QUARTER = Regime(f"130 of 520 epochs on {_FOLDED}", ("conv_local_quarter",),
                 "configs/sweeps/conv_local_quarter.py", whole=True, seeds=3, family=DESCRIPTIVE)
WHOLE = Regime(f"all 520 epochs on {_FOLDED}", ("conv_local_whole",), "configs/sweeps/conv_local_whole.py",
               whole=True, seeds=3, family=DESCRIPTIVE)
BY_IMAGES = Regime("90 epochs on 3,000 to 40,000 images", ("dropout_by_images",),
                   "configs/sweeps/dropout_by_images.py", whole=True, seeds=5, family=DESCRIPTIVE)
ITERATIONS = Regime("12,000 images until the error stops improving", ("dropout_iterations",),
                    "configs/sweeps/dropout_iterations.py", whole=True, seeds=10, family=DESCRIPTIVE)
AVERAGES = Regime("averages of five, first-layer kernels and nearest neighbours of the paper's regime",
                  ("paper_like_averages",), "configs/sweeps/paper_like_averages.py", seeds=5, family=DESCRIPTIVE)
PLANNED = (PAPER_LIKE_30, PAPER_LIKE_10, HUNDRED_CLASSES, SECOND_IMAGES, EARLY, QUARTER, WHOLE, BY_IMAGES, ITERATIONS,
           AVERAGES)

# Short schedules, before that plan; no numbers of seeds were planned.
FIVE = Regime("5 epochs on 40,000 images", ("claims_cifar10",), "configs/sweeps/claims_cifar10.py")
THREE = Regime("5 epochs on 40,000 images, an earlier revision", ("cifar10_three",), "configs/sweeps/cifar10_three.py")
TINY = Regime("8 epochs on 40,000 images of 100 classes", ("claims_tiny_imagenet",),
              "configs/sweeps/claims_tiny_imagenet.py")
LOCAL = Regime(f"26 of 520 epochs on {_FOLDED}", ("conv_local",), "configs/sweeps/conv_local.py", whole=True)
INITIALISATION = Regime("4 epochs on 40,000 images", ("initialisation",), "configs/sweeps/initialisation.py")
CONVERGENCE = Regime("until the error stops improving", ("convergence",), "configs/sweeps/convergence.py", whole=True)

SHORT = (FIVE, TINY, THREE)


def of(claims: Iterable[Claim]) -> Iterator[Regime]:
    """The regimes that the claims are measured in, and all of the evidence plan."""
    yield from (regime for claim in claims for what in claim.measures for regime in what.regimes)
    yield from PLANNED
