"""The networks of others in PyTorch, each written from its own source and sharing nothing with this project: logits of
images as that framework feeds them."""

import numpy as np
import torch
import torch.nn.functional as F


def tensors(arrays):
    return {name: torch.tensor(np.ascontiguousarray(a), dtype=torch.float64) for name, a in arrays.items()}


def torchvision(state, images):
    """torchvision/models/alexnet.py after ImageClassification's last steps. images: uint8 [n, 224, 224, 3]."""
    s = tensors(state)
    x = torch.tensor(images).permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(v).double()[None, :, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (x - mean) / std
    for number, stride, padding, pool in ((0, 4, 2, True), (3, 1, 2, True), (6, 1, 1, False), (8, 1, 1, False),
                                          (10, 1, 1, True)):
        x = F.relu(F.conv2d(x, s[f"features.{number}.weight"], s[f"features.{number}.bias"], stride, padding))
        x = F.max_pool2d(x, 3, 2) if pool else x
    x = F.adaptive_avg_pool2d(x, (6, 6)).flatten(1)
    for number in (1, 4):
        x = F.relu(F.linear(x, s[f"classifier.{number}.weight"], s[f"classifier.{number}.bias"]))
    return F.linear(x, s["classifier.6.weight"], s["classifier.6.bias"]).numpy()


def caffe(kernels, biases, images, mean, pool_first):
    """deploy.prototxt of bvlc_alexnet, or of CaffeNet. images: uint8 [n, 256, 256, 3] RGB; mean: BGR [3, 256, 256]."""
    w, b = tensors(kernels), tensors(biases)
    bgr = torch.tensor(images).permute(0, 3, 1, 2).flip(1).double() - torch.tensor(mean).double()
    x = bgr[:, :, 14:241, 14:241]
    groups = {"conv2": 2, "conv4": 2, "conv5": 2}
    for name, stride, padding in (("conv1", 4, 0), ("conv2", 1, 2), ("conv3", 1, 1), ("conv4", 1, 1), ("conv5", 1, 1)):
        x = F.relu(F.conv2d(x, w[name], b[name], stride, padding, groups=groups.get(name, 1)))
        steps = {"conv1": "np", "conv2": "np", "conv5": "p"}.get(name, "")
        for step in steps[::-1] if pool_first else steps:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True) if step == "p" else F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
    x = x.flatten(1)
    for name in ("fc6", "fc7"):
        x = F.relu(F.linear(x, w[name], b[name]))
    return F.linear(x, w["fc8"], b["fc8"]).numpy()


def released(kernels, biases, images, mean):
    """layers-145.cfg, column by column. images: uint8 [n, 256, 256, 3]; mean: [256, 256, 3], its centre subtracted."""
    w = {name: k.chunk(2) if name != "fc8" else [k] for name, k in tensors(kernels).items()}
    b = {name: k.chunk(2) if name != "fc8" else [k] for name, k in tensors(biases).items()}
    x = torch.tensor(images[:, 16:240, 16:240].astype(np.float64) - mean[16:240, 16:240]).permute(0, 3, 1, 2)

    def conv(name, column, x, stride=1, padding=0, far=0):
        return F.conv2d(F.pad(x, (0, far, 0, far)), w[name][column], b[name][column][:], stride, padding)

    def norm(x):
        return F.local_response_norm(x, 5, 1e-4, 0.75, 2.0)

    def same_map(x):
        return x / (1 + 0.001 * F.avg_pool2d(x * x, 5, 1, 2)) ** 0.75

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    one = [F.relu(pool(norm(conv("conv1", c, x, 4, far=3)))) for c in (0, 1)]
    two = [pool(same_map(norm(F.relu(conv("conv2", c, one[c], padding=2))))) for c in (0, 1)]
    both = torch.cat(two, 1)
    three = [F.relu(conv("conv3", c, both, padding=1)) for c in (0, 1)]
    four = [F.relu(conv("conv4", c, three[c], padding=1)) for c in (0, 1)]
    five = [F.relu(pool(conv("conv5", c, four[c], padding=1))) for c in (0, 1)]
    x = torch.cat(five, 1).flatten(1)
    for name in ("fc6", "fc7"):
        x = 0.5 * torch.cat([F.relu(F.linear(x, w[name][c], b[name][c])) for c in (0, 1)], 1)
    return F.linear(x, w["fc8"][0], b["fc8"][0]).numpy()


def random_weights(shapes, seed=0):
    """({layer: kernel}, {layer: bias}), float32: the signal lives, biases other than 0."""
    rng = np.random.default_rng(seed)
    kernels = {n: (rng.standard_normal(s) * (2 / np.prod(s[1:])) ** 0.5).astype(np.float32) for n, s in shapes.items()}
    return kernels, {n: (0.3 * rng.standard_normal(s[0])).astype(np.float32) for n, s in shapes.items()}


def shapes(features, dense, classes, groups):
    """Kernels in PyTorch's layout of an AlexNet of these sizes. `groups`: of conv2, conv4 and conv5."""
    one, two, three, four, five = features
    return {"conv1": (one, 3, 11, 11), "conv2": (two, one // groups, 5, 5), "conv3": (three, two, 3, 3),
            "conv4": (four, three // groups, 3, 3), "conv5": (five, four // groups, 3, 3),
            "fc6": (dense, five * 36), "fc7": (dense, dense), "fc8": (classes, dense)}
