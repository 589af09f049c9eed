"""What devices hand each other, as compiled and as told by `column_costs`."""

import json
import re

from mesh_programs import config, programs

from alexnet_jax.inspect.targets import compiling, hlo
from alexnet_jax.parallel import column_costs

out = {}
for columns, devices in ((2, 2), (4, 4), (4, 2)):
    c = config(model__columns=columns)
    step, _ = compiling.arguments(p := programs(c, devices))
    found = [[x.kind, re.findall(r"/((?:conv|fc)\d)/", x.where)[0], x.handed_in, x.received]
             for x in hlo.collectives(p.train_step.lower(*step).compile().as_text())]
    out[f"{columns} on {devices}"] = {"compiled": found, "told": column_costs.exchanges(c, 10, devices)}
print(json.dumps(out))
