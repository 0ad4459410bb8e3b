#!/usr/bin/env python3
"""The bench models in PyTorch at its best, timed on one GPU: what psann_bench's figures are held against.

  torch_rival_gpu.py MODEL… [--batch N] [--steps N] [--warmup N] [--forward] [--eager]    a JSON line for each model
  torch_rival_gpu.py --check CASE.h5                                                     logits of a parity case

The model of torch_rival.py with fused attention, in bf16 under autocast over fp32 parameters, compiled, with fused AdamW and clipping at 1.
MODEL is a file of configs/bench without its ending. Training: forward, backward, clipping, AdamW on random tokens; forward: embedding to
logits. Mean of the steps after the warm-up, the device synchronized at both ends. Needs PyTorch 2.
"""
import argparse
import configparser
import contextlib
import json
import pathlib
import sys
import time

import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import torch_rival  # noqa: E402
from torch_rival import Attention, Model, rotate  # noqa: E402

PEAK = 989.4e12  # dense bf16


def fused_attention(self, x, cos, sin, mask):
    batch, length, width = x.shape
    q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
    q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return self.o_proj(out.transpose(1, 2).reshape(batch, length, width))


def read_shape(name):
    path = pathlib.Path(__file__).resolve().parents[2] / "configs" / "bench" / f"{name}.ini"
    ini = configparser.ConfigParser()
    if not ini.read(path):
        sys.exit(f"there is no bench model {name}: {path} is missing")
    model = {key: int(ini["model"][key]) for key in ("vocab_size", "d_model", "n_layers", "n_heads", "d_mlp")}
    return model, int(ini["data"]["seq_len"]), int(ini["train"]["micro_batch"])


def flop_per_token(m, length):
    """Of training, attention counted causally, embedding lookups not at all."""
    D, L = m["d_model"], m["n_layers"]
    return 6 * (L * (4 * D * D + 2 * D * m["d_mlp"]) + D * m["vocab_size"]) + 6 * L * length * D


def make_model(m, length, device):
    model = Model(m["vocab_size"], m["d_model"], m["n_layers"], m["n_heads"], m["d_mlp"], 1)
    pairs = m["d_model"] // m["n_heads"] // 2
    angle = torch.arange(length).double()[:, None] * 10000.0 ** (-torch.arange(pairs).double() / pairs)
    model.cos, model.sin = angle.cos().float(), angle.sin().float()  # the mask of one position is not used
    return model.to(device)


def measure(name, o, device):
    m, length, batch = read_shape(name)
    batch, length = o.batch or batch, o.seq_len or length
    torch.manual_seed(1)
    model = make_model(m, length, device)
    cuda = device.type == "cuda"
    call = model if o.eager else torch.compile(model)
    precision = torch.autocast(device.type, torch.bfloat16) if o.precision == "bf16" else contextlib.nullcontext()
    ids = torch.randint(m["vocab_size"], (batch, length + 1), device=device)
    # The loss belongs to the compiled part, so that its passes over the logits are fused.
    loss_of = lambda: F.cross_entropy(call(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    if not o.eager:
        loss_of = torch.compile(loss_of)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01, **({"fused": True} if cuda else {}))

    def train():
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    @torch.no_grad()
    def forward():
        with precision:
            return call(ids[:, :-1])

    step = forward if o.forward else train
    for _ in range(o.warmup):
        last = step()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in range(o.steps):
        last = step()
    if cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / o.steps
    tok_s = batch * length / seconds
    flop = flop_per_token(m, length) / (3 if o.forward else 1)
    return {
        "model": name, "mode": "forward" if o.forward else "train", "precision": o.precision, "compiled": not o.eager, "micro_batch": batch, "seq_len": length,
        "tok_s": tok_s, "ms": 1000 * seconds, "mfu": tok_s * flop / PEAK if cuda else None, "loss": None if o.forward else last.item(),
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None, "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "cpu", "steps": o.steps, "warmup": o.warmup,
    }


def main():
    p = argparse.ArgumentParser(description="training and forward speed of the bench models in PyTorch")
    p.add_argument("models", nargs="*")
    p.add_argument("--check", metavar="CASE.h5")
    p.add_argument("--batch", type=int, help="sequences; the config's when not given")
    p.add_argument("--seq-len", type=int, help="tokens of a sequence; the config's when not given")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--warmup", type=int, default=5)
    p.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    p.add_argument("--forward", action="store_true")
    p.add_argument("--eager", action="store_true", help="without torch.compile")
    o = p.parse_args()
    Attention.forward = fused_attention
    if o.check:
        torch_rival.check(o.check)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in o.models:
        print(json.dumps(measure(name, o, device)), flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.compiler.reset()


if __name__ == "__main__":
    main()
