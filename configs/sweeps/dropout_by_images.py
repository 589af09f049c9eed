"""Part C of docs/evidence-plan.md: what dropout is worth on 3,000, 6,000, 24,000 and 40,000 images (12,000: part A1).

    python -m experiments.run --sweep=configs/sweeps/dropout_by_images.py --workdir=runs/dropout_by_images --dry_run
    python -m experiments.run --sweep=configs/sweeps/dropout_by_images.py --workdir=runs/dropout_by_images

Each number of images has a baseline of its own. Epochs stay 90, so that updates grow with the images: what is shown is
images and updates together.

Cost: 50 runs of 90 epochs (10 arms, 5 seeds); a run takes as much longer as it has more images. Those of 12,000 images
are part A1's, and copied from there they aren't run again.
"""


def get_sweep():
    return {
        "config": "configs/paper_like_cifar10.py",
        "ablations": ("dropout", "dropout_by_images"),
        "seeds": tuple(range(1, 6)),
        "jobs": 0,
    }
