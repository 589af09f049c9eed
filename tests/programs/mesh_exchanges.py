"""The collectives of three ways to exchange."""

import json

from mesh_programs import collectives, compiled, config, programs

out = {}
for name, layers in (("none", ()), ("conv4", ("conv4", "fc6", "fc7")), ("paper", ("conv3", "fc6", "fc7"))):
    c = config(model__exchange=layers)
    out[name] = {which: collectives(executable, 2) for which, executable in compiled(programs(c, 2)).items()}
print(json.dumps(out))
