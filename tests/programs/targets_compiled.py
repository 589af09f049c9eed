"""The full network compiled for a target by both recipes: `TARGET forward,step paper,released`."""

import dataclasses
import json
import re
import sys
from typing import Any

from alexnet_jax import cli
from alexnet_jax import config as config_lib
from alexnet_jax.inspect import targets

target = targets.parse(sys.argv[1])
targets.prepare(target)
from alexnet_jax.inspect.targets import compiling, report  # noqa: E402

out: dict[str, Any] = {}
for recipe in sys.argv[3].split(","):
    c = cli.load_config(f"configs/imagenet_{recipe}.py")
    c = config_lib.override(c, {"train.precision": "bfloat16", "train.batch_size": 128 * target.data})
    p = compiling.program_for(config_lib.resolve(c), 1000, target)
    out[recipe] = {"state": compiling.state_bytes(p)}
    for which in sys.argv[2].split(","):
        x = compiling.compile_program(p, which, target)
        out[recipe][which] = {
            "collectives": [[y.kind, axis, report.place(y, axis), y.handed_in, y.received]
                            for y, axis in zip(x.collectives, x.axes, strict=True)],
            "memory": dataclasses.asdict(x.memory) | {"total": x.memory.total}, "flops": x.flops,
            "convolutions": {name: len(re.findall(f'custom_call_target="__cudnn.conv{name}', x.text))
                             for name in ("BiasActivationForward", "Forward", "BackwardFilter", "BackwardInput")}}
print(json.dumps(out))
