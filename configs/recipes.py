"""`alexnet_jax.recipes`, for config files: `from configs import recipes`."""

from alexnet_jax.recipes import BIASED, CONVS, RECIPES, apply, caffe, cuda_convnet, paper, released, short

__all__ = ["BIASED", "CONVS", "RECIPES", "apply", "caffe", "cuda_convnet", "paper", "released", "short"]
