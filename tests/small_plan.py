"""A planned sweep of three arms, for the tests of plans, costs and the schedule."""

from alexnet_jax import config as config_lib
from configs import networks
from experiments.sweep import plan as plan_lib
from experiments.sweep.ablations import Arm

NO_LRN = Arm("no_lrn", {"model.lrn.layers": ()}, "lrn")
TANH = Arm("tanh", {"model.activation": "tanh"}, "activation")


def base_config(**overrides):
    config = config_lib.default()
    with config.unlocked():
        config.optim.schedule = "constant"
        networks.alexnet32(config)
    return config_lib.resolve(config_lib.override(config, overrides))


def build(arms=(NO_LRN, TANH), seeds=(0, 1), base=None, **overrides):
    return plan_lib.build(base or base_config(**overrides), "configs/shapes.py", "three", arms, seeds)


def begin(plan, workdir):
    """Writes the plan as if its first run had been started."""
    (workdir / plan.runs[plan.order()[0]].dir).mkdir(parents=True, exist_ok=True)
    plan_lib.write(plan, workdir)
