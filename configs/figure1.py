"""The paper's figure 1: the four-layer CIFAR-10 network, ReLU or tanh, until 25% training error.

    python -m experiments.figure1 --workdir=runs/figure1                                 # rates chosen, five seeds
    python -m alexnet_jax.main --config=configs/figure1.py:tanh --workdir=runs/tanh      # one run

"Training error" is that of the weights at the end of an epoch on all that was learnt from: the figure's "training
error rate", not the running mean over an epoch. Without any regularisation: no decay, no augmentation, no dropout.
"""

from configs import four_layer


def get_config(activation: str = "relu"):
    c = four_layer.get_config(activation)
    c.data.train_split = c.data.eval_split = "train[:50000]"  # the five training files
    c.train.stop_at_error = 0.25  # section 3.1
    c.train.epochs = 60  # a run that hasn't got there gives a lower bound
    return c
