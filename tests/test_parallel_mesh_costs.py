"""What a device computes, holds and communicates, read from programs compiled for emulated CPU devices.

Two devices halve it; four columns work as two do; and the exchanges are those that `model.exchange` names.
"""


import emulated
import pytest

pytestmark = pytest.mark.timeout(600)

def test_two_devices_halve_work_and_memory():
    out = emulated.run("mesh_work.py", 2)
    one, two = out["1"], out["2"]
    # Winograd's algorithm: 4 of conv2's 12 rows in 8 products and not 4 · 5, 3 of the others' 6 in 5 and not 3 · 3.
    fewer = {"conv2": (8, 20)} | dict.fromkeys(("conv3", "conv4", "conv5"), (5, 9))
    layers = out["layers"] | {name: out["layers"][name] * few // many for name, (few, many) in fewer.items()}

    # Every product of every convolution and matrix: half, to the last one. In the forward pass they are those of the
    # layers and the banded products of the response norms (24² and 12² pixels, 16 channels a column).
    norms = 2 * 16 * 16 * (24**2 + 12**2)
    # conv1 computes four neighbours at once from 8 columns of pixels, where each alone needs 5 (`fast.convolve`).
    wider = layers["conv1"] * 8 // 5 - layers["conv1"]
    assert one["forward"]["products"] == 16 * (sum(layers.values()) + wider + norms)
    for which in ("forward", "step"):
        assert 2 * two[which]["products"] == one[which]["products"], which
    # Backward, as many again for the weights and for the input of each layer (the images' is not wanted), and a banded
    # product for each norm. Nothing is computed twice.
    # A bias's gradient is a product by ones over all pixels (`fast.add_bias`); conv5 adds its bias after pooling.
    biases = 2 * 16 * (24**2 + 12**2 + 2 * 6**2 + 3**2)
    assert one["step"]["products"] == 16 * (3 * sum(layers.values()) - layers["conv1"] + wider + 2 * norms + biases)

    # All operations. What doesn't halve: augmentation, which both devices do for all images; the softmax and the loss,
    # 16 × 10 logits; and what the compiler computes twice to save memory, differently for one column and two. Measured:
    # 0.4903 and 0.5004 of the work of one device. In the step it is less than half, because for two columns on one
    # device XLA computes some gradients of norms and pooling both for the bias's product and for each column.
    assert two["forward"]["flops"] == pytest.approx((one["forward"]["flops"] + 16 * 24 * 24 * 3) / 2, rel=0.005)
    half = (one["step"]["flops"] + out["augmentation"]) / 2
    assert 0.975 * half < two["step"]["flops"] < 1.005 * half

    # Parameters and velocity: half, but for the output layer's 10 biases, which both hold.
    biases = 2 * 10 * 4
    assert two["state"] - biases == (one["state"] - biases) / 2
    # The compiler's own sum of the arguments: the state, and images, labels and constants, whole on both.
    for count in (one, two):
        assert count["step"]["arguments"] == count["state"] + out["replicated"]
    assert two["step"]["temporaries"] < 0.75 * one["step"]["temporaries"]


def _exchange(*layers):
    """The collectives of a forward pass, and of a training step, with exchanges before these layers."""
    forward = sorted([["all-gather", "column", layer] for layer in layers] + [["all-reduce", "column", "fc8"]])
    return forward, sorted(forward + [["reduce-scatter", "column", layer] for layer in layers])


@pytest.fixture(scope="module")
def four_columns():
    return emulated.run("mesh_four_columns.py", 4, x64=True)


@pytest.fixture(scope="module")
def two_columns():
    return emulated.run("mesh_exchanges.py", 2)


def test_four_columns_meet_three_times_on_two_and_four_devices(four_columns):
    # That they train alike: test_parallel_same_curve.py, whose network has four.
    _, expected = _exchange("conv3", "fc6", "fc7")
    for devices, local in (("2", 2), ("4", 1)):
        assert four_columns[devices]["kernel"] == local
        assert four_columns[devices]["step"] == expected


def test_the_bytes_of_the_exchanges_are_those_of_the_compiled_program(four_columns, two_columns):
    # In float64 and float32: the compiler for CPUs widens collectives of bfloat16. Those are tested in
    # test_commands_describe.py, against the numbers of programs for H100s, and in test_inspect_targets.py.
    batch = 8
    for both in (two_columns["paper"], four_columns["4"], four_columns["2"]):
        expected = []
        for layer, kind, handed_in, received, _, _ in both["told"]:
            expected.append([kind, layer, batch * handed_in, batch * received])
            if kind == "all-gather":  # its transpose, backward
                expected.append(["reduce-scatter", layer, batch * received, batch * handed_in])
        assert len(expected) == 7
        assert sorted(both["compiled"]) == sorted(expected)


def test_columns_meet_where_the_config_says_and_nowhere_else(two_columns):
    for name, layers in (("none", ()), ("conv4", ("conv4", "fc6", "fc7")), ("paper", ("conv3", "fc6", "fc7"))):
        forward, step = _exchange(*layers)
        assert two_columns[name]["step"] == step, name
        assert two_columns[name].get("forward", forward) == forward, name
    assert "forward" in two_columns["conv4"]
