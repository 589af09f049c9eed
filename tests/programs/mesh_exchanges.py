"""The collectives of three ways to exchange; of the paper's their bytes too, as compiled and as told."""

import json
from typing import Any

from mesh_programs import collectives, config, exchanges, programs

from alexnet_jax.inspect.targets import compiling
from alexnet_jax.parallel import column_costs

out: dict[str, Any] = {}
for name, layers in (("none", ()), ("conv4", ("conv4", "fc6", "fc7")), ("paper", ("conv3", "fc6", "fc7"))):
    c = config(model__exchange=layers)
    step, view = compiling.arguments(p := programs(c, 2))
    executable = p.train_step.lower(*step).compile()
    out[name] = {"step": collectives(executable, 2)}
    if name == "conv4":  # of the paper's: mesh_lines.py
        out[name]["forward"] = collectives(p.view_log_probs.lower(*view).compile(), 2)
    if name == "paper":
        out[name] |= {"compiled": exchanges(executable), "told": column_costs.exchanges(c, 10, 2)}
print(json.dumps(out))
