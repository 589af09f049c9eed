"""Programs of a small network on a mesh, for the programs beside this file."""

import re

from alexnet_jax import config as config_lib
from alexnet_jax import networks, recipes
from alexnet_jax.inspect.targets import compiling, hlo
from alexnet_jax.parallel import mesh as mesh_lib
from alexnet_jax.training import program


def config(**changes):
    c = config_lib.default()
    networks.alexnet32(c)
    recipes.apply(c, "released")
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        c.model[name].features = 16
    c.model.fc6.features = c.model.fc7.features = 32
    c.data.size, c.augment.chunk, c.train.batch_size, c.train.precision = 28, 2, 8, "float32"
    named = {k.replace("__", "."): v for k, v in changes.items()}
    return config_lib.resolve(config_lib.override(c, named))


def programs(c, column):
    mesh = mesh_lib.make_mesh(config_lib.override(c, {"mesh.data": 1, "mesh.column": column}))
    return program.Program(c, 10, mesh)


def compiled(p):
    step, view = compiling.arguments(p)
    return {"step": p.train_step.lower(*step).compile(), "forward": p.view_log_probs.lower(*view).compile()}


def exchanges(executable):
    """[kind, layer, bytes handed in, bytes received] of each collective."""
    return [[x.kind, re.findall(r"/((?:conv|fc)\d)/", x.where)[0], x.handed_in, x.received]
            for x in hlo.collectives(executable.as_text())]


def collectives(executable, column):
    out = []
    for x in hlo.collectives(executable.as_text()):
        layer = re.search(r"/((?:conv|fc)\d)/", x.where)
        out.append([x.kind, hlo.axis_of(x, 1, column), layer[1] if layer else ""])
    return sorted(out)
