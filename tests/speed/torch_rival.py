#!/usr/bin/python3
"""The same model as psann's base respsann in plain PyTorch, to be compared in speed on one core.

  torch_rival.py [--steps N] [--fused-sine]     prints a JSON object with tokens a second
  torch_rival.py --check CASE.h5                compares logits and loss with a golden case

Decoder with RMSNorm, one product for q, k and v, RoPE on adjacent pairs, damped sine A·exp(-d|z|)·sin(f·z) in the MLP, alpha on the
MLP's branch, untied head, cross entropy, clipping by the global norm, AdamW. With --fused-sine the activation is a torch.autograd.Function
that keeps z alone and computes the derivatives by hand, the most that plain Python can do for it.
"""

import argparse
import ctypes
import json
import os
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * (self.scale * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


class FusedSine(torch.autograd.Function):
    """y = A e sin(f z), e = exp(-d |z|), for effective A, f, d."""

    @staticmethod
    def forward(ctx, z, amplitude, frequency, damping):
        ctx.save_for_backward(z, amplitude, frequency, damping)
        return torch.exp(-damping * z.abs()).mul_(torch.sin(frequency * z)).mul_(amplitude)

    @staticmethod
    def backward(ctx, gy):
        z, amplitude, frequency, damping = ctx.saved_tensors
        size = z.abs()
        envelope = torch.exp(-damping * size)
        angle = frequency * z
        sine, cosine = torch.sin(angle), torch.cos(angle)
        ge = gy * envelope
        over = tuple(range(z.dim() - 1))
        d_amplitude = (ge * sine).sum(over)
        ge *= amplitude
        d_frequency = (ge * cosine * z).sum(over)
        d_damping = -(ge * sine * size).sum(over)
        dz = ge * (frequency * cosine - damping * torch.sign(z) * sine)
        return dz, d_amplitude, d_frequency, d_damping


class Sine(nn.Module):
    def __init__(self, width, fused):
        super().__init__()
        start = lambda value: nn.Parameter(torch.full((width,), value).expm1().log())
        self._A, self._f, self._d = start(1.0), start(1.0), start(0.01)
        self.fused = fused

    def forward(self, z):
        amplitude, frequency, damping = F.softplus(self._A), F.softplus(self._f) + 1e-6, F.softplus(self._d)
        if self.fused:
            return FusedSine.apply(z, amplitude, frequency, damping)
        return amplitude * torch.exp(-damping * z.abs()) * torch.sin(frequency * z)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x, cos, sin, mask):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        scores = torch.matmul(q * (width // self.heads) ** -0.5, k.transpose(-1, -2)) + mask
        out = torch.matmul(torch.softmax(scores, -1), v)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, width))


def rotate(x, cos, sin):
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, width, heads, mlp, fused):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attn = Attention(width, heads)
        self.fc1, self.act, self.fc2 = nn.Linear(width, mlp), Sine(mlp, fused), nn.Linear(mlp, width)

    def forward(self, x, cos, sin, mask):
        x = x + self.attn(self.norm1(x), cos, sin, mask)
        return x + self.alpha * self.fc2(self.act(self.fc1(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, vocab, width, layers, heads, mlp, length, fused=False):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp, fused) for _ in range(layers))
        self.norm = RMSNorm(width)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        pairs = width // heads // 2
        angle = torch.arange(length).double()[:, None] * 10000.0 ** (-torch.arange(pairs).double() / pairs)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        self.register_buffer("mask", torch.full((length, length), float("-inf")).triu(1), persistent=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin, self.mask)
        return self.lm_head(self.norm(x))


def load_golden(model, params):
    """Tensors by the golden file's names; q, k and v become one matrix."""
    take = lambda name: torch.from_numpy(params[name][...]).double()
    names = {"norm.scale": "ln_f.scale", "embed.weight": "embed.weight", "lm_head.weight": "lm_head.weight"}
    state = {}
    for ours, theirs in names.items():
        state[ours] = take(theirs)
    for i in range(len(model.blocks)):
        at = f"blocks.{i}."
        state[at + "attn.qkv.weight"] = torch.cat([take(f"{at}attn.{x}_proj.weight") for x in "qkv"])
        for ours, theirs in {
            "alpha": "alpha", "norm1.scale": "norm1.scale", "norm2.scale": "norm2.scale", "attn.o_proj.weight": "attn.o_proj.weight",
            "fc1.weight": "mlp.fc1.weight", "fc1.bias": "mlp.fc1.bias", "fc2.weight": "mlp.fc2.weight", "fc2.bias": "mlp.fc2.bias",
            "act._A": "mlp.act._A", "act._f": "mlp.act._f", "act._d": "mlp.act._d",
        }.items():
            state[at + ours] = take(at + theirs)
    model.load_state_dict(state)


def check(path):
    import h5py

    with h5py.File(path) as case:
        a = case.attrs
        ids, labels = torch.from_numpy(case["input_ids"][0]).long(), torch.from_numpy(case["labels"][0]).long()
        for fused in (False, True):
            model = Model(int(a["vocab_size"]), int(a["d_model"]), int(a["n_layers"]), int(a["n_heads"]), int(a["d_mlp"]), ids.shape[1], fused).double()
            load_golden(model, case["params"])
            logits = model(ids)
            golden = torch.from_numpy(case["logits"][...])
            error = ((logits - golden).norm() / golden.norm()).item()
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
            loss.backward()
            slope = torch.from_numpy(case["grads/blocks.0.mlp.act._f"][...]).double()
            slope_error = ((model.blocks[0].act._f.grad - slope).norm() / slope.norm()).item()
            print(f"fused_sine {fused}: logits {error:.2e}, loss {abs(loss.item() - float(case['loss'][()])):.2e}, gradient of _f {slope_error:.2e}")
            assert error < 1e-6 and slope_error < 1e-5


def blas():
    """Path and core type of the OpenBLAS that this process has loaded."""
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "libopenblas" in line}
    for path in sorted(paths):
        library = ctypes.CDLL(path)
        if hasattr(library, "openblas_get_corename"):
            library.openblas_get_corename.restype = ctypes.c_char_p
            return os.path.realpath(path), library.openblas_get_corename().decode()
    return None, None


def measure(o):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = Model(o.vocab, o.width, o.layers, o.heads, o.mlp, o.length, o.fused_sine)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    ids = torch.randint(o.vocab, (o.batch, o.length + 1))
    seconds = []
    for step in range(o.warm_up + o.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        if step >= o.warm_up:
            seconds.append(time.perf_counter() - start)
    path, core = blas()
    tokens = o.batch * o.length
    print(json.dumps({
        "torch": torch.__version__, "threads": torch.get_num_threads(), "openblas": path, "core": core, "fused_sine": o.fused_sine,
        "parameters": sum(p.numel() for p in model.parameters()), "steps": len(seconds), "loss": loss.item(),
        "tokens_per_second": tokens * len(seconds) / sum(seconds), "tokens_per_second_median": tokens / statistics.median(seconds),
    }))


def main():
    p = argparse.ArgumentParser(description="psann's respsann in PyTorch: training speed on one core")
    p.add_argument("--check", metavar="CASE.h5")
    p.add_argument("--fused-sine", action="store_true")
    for name, value in {"steps": 20, "warm-up": 3, "width": 128, "layers": 4, "heads": 4, "mlp": 512, "vocab": 256, "length": 128, "batch": 16}.items():
        p.add_argument("--" + name, type=int, default=value)
    o = p.parse_args()
    check(o.check) if o.check else measure(o)


if __name__ == "__main__":
    main()
