"""Any network of this project in plain PyTorch: python -m alexnet_jax.weights export --workdir=RUN --to=one.pth

    model = AlexNet(torch.load("one.pth", weights_only=True)).eval()
    logits = model(pixels)  # float [batch, 3, crop, crop], red, green, blue, 0 to 255, cropped at the centre

Needs nothing but PyTorch. Columns are groups of channels. The file's "classes" names the outputs.
"""

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "scaled_tanh": lambda x: 1.7159 * torch.tanh(x * 2 / 3)}


class AlexNet(nn.Module):
    def __init__(self, file: dict):
        super().__init__()
        config, mean, state = file["config"], file["input"]["mean"], file["state_dict"]
        self.m, self.augment, crop = config["model"], config["augment"], config["data"]["crop"]
        first = max(0, (len(mean) - crop) // 2)  # a mean image is of the whole image, or of the crop, or a pixel
        self.mean = mean[first:first + crop, first:first + crop].permute(2, 0, 1)
        self.divide = torch.tensor(self.augment["divide"] or [1.0])
        self.names = list(dict.fromkeys(name.split(".")[0] for name in state))
        for name in self.names:
            setattr(self, name, nn.ParameterDict({leaf: state[f"{name}.{leaf}"] for leaf in ("weight", "bias")}))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.augment["grey"]:
            x = (x * torch.tensor([0.299, 0.587, 0.114], device=x.device)[:, None, None]).sum(1, keepdim=True)
        x = (x - self.mean.to(x)) / self.divide.to(x)[:, None, None]
        for name in self.names:
            w, b = getattr(self, name)["weight"], getattr(self, name)["bias"]
            if name.startswith("conv"):
                x = self._conv(name, int(name[-1]), x, w, b)
            else:  # over all inputs, or column by column
                n = x[0].numel() // w.shape[1]
                parts = zip(x.flatten(1).chunk(n, 1), w.chunk(n), b.chunk(n), strict=True)
                x = torch.cat([F.linear(*part) for part in parts], 1)
                x = x if name == "fc8" else ACTIVATIONS[self.m["activation"]](x)
            if name in self.m["dropout_layers"]:  # 0/1 masks in training and × (1 − p) at test, or PyTorch's way
                scale = 1 - self.m["dropout"] if self.m["dropout_scale"] == "test" else 1
                x = F.dropout(x, self.m["dropout"], self.training) * scale
        return x

    def _conv(self, name: str, number: int, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        stride, near = self.m[name]["stride"], self.m[name]["padding"]
        far = near
        if self.m["rounding"] == "ceil":  # zeros where the last filter hangs over the edge
            far += -(2 * near + x.shape[-1] - w.shape[-1]) % stride
        x = F.conv2d(F.pad(x, (near, far, near, far)), w, b, stride, groups=x.shape[1] // w.shape[1])
        pool, lrn, norm = self.m["pool"], self.m["lrn"], self.m["same_map"]
        for step in (lrn["order"][number - 1] if number < 3 else "relu-lrn-pool").split("-"):
            if step == "relu":
                x = ACTIVATIONS[self.m["activation"]](x)
            elif step == "lrn" and number in lrn["layers"]:
                alpha = lrn["alpha"] * (1 if lrn["alpha_over_n"] else lrn["n"])  # PyTorch divides it by n
                parts = x.chunk(self.m["columns"] if lrn["window"] == "column" else 1, 1)
                x = torch.cat([F.local_response_norm(p, lrn["n"], alpha, lrn["beta"], lrn["k"]) for p in parts], 1)
                if number in norm["layers"]:
                    x = x / (1 + norm["alpha"] * F.avg_pool2d(x * x, norm["size"], 1, norm["size"] // 2)
                             ) ** norm["beta"]
            elif step == "pool" and number in pool["layers"]:
                kind = pool["kinds"][pool["layers"].index(number)] if pool["kinds"] else pool["kind"]
                ceil = {"ceil_mode": pool["rounding"] == "ceil"}
                x = (F.max_pool2d(x, pool["window"], pool["stride"], **ceil) if kind == "max" else
                     F.avg_pool2d(x, pool["window"], pool["stride"], count_include_pad=False, **ceil))
        return x


