#!/usr/bin/env python3
"""The bench models in PyTorch at its best, timed on one GPU or several: what psann_bench's figures are held against.

  torch_rival_gpu.py MODEL… [--batch N] [--steps N] [--warmup N] [--forward] [--eager]    a JSON line for each model
  torchrun --standalone --nproc-per-node N torch_rival_gpu.py MODEL… --parallel P …       on N GPUs, P: ddp or fsdp2
  torch_rival_gpu.py --check CASE.h5                                                     logits of a parity case

The model of torch_rival.py with fused attention, compiled, with fused AdamW and clipping at 1. One GPU and ddp: bf16 under autocast over
fp32 parameters. fsdp2: blocks sharded and compiled one by one, bf16 parameters gathered from fp32 shards, gradients summed in fp32.
MODEL is a file of configs/bench without its ending. Training: forward, backward, clipping, AdamW on random tokens, each rank its own;
forward: embedding to logits. Mean of the steps after the warm-up, the device synchronized at both ends. tok_s counts all ranks, peak_bytes is
the most that one took. Needs PyTorch 2; without a GPU it runs on the CPU, through gloo.
"""
import argparse
import configparser
import contextlib
import json
import os
import pathlib
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import torch_rival  # noqa: E402
from torch_rival import Attention, Block, Model, RMSNorm, Sine, rotate  # noqa: E402

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


def new_model(m):
    return Model(m["vocab_size"], m["d_model"], m["n_layers"], m["n_heads"], m["d_mlp"], 1)


def set_positions(model, m, length, device):
    pairs = m["d_model"] // m["n_heads"] // 2
    angle = torch.arange(length).double()[:, None] * 10000.0 ** (-torch.arange(pairs).double() / pairs)
    model.cos, model.sin = angle.cos().float().to(device), angle.sin().float().to(device)  # the mask of one position is not used


@torch.no_grad()
def fill(model):
    """The start that Model has, in shards that hold nothing yet: each rank fills its own."""
    def own(p):
        return p.to_local() if hasattr(p, "to_local") else p
    for module in model.modules():
        if isinstance(module, nn.Linear):
            bound = (6 / sum(module.weight.shape)) ** 0.5
            own(module.weight).uniform_(-bound, bound)
            if module.bias is not None:
                own(module.bias).zero_()
        elif isinstance(module, nn.Embedding):
            own(module.weight).normal_(std=0.02)
        elif isinstance(module, RMSNorm):
            own(module.scale).fill_(1)
        elif isinstance(module, Block):
            own(module.alpha).fill_(1)
        elif isinstance(module, Sine):
            for p, value in ((module._A, 1.0), (module._f, 1.0), (module._d, 0.01)):
                own(p).fill_(torch.tensor(value).expm1().log().item())


def sharded_model(m, length, device, compiled):
    """No rank ever holds the whole: the model has no memory before it is cut."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    with torch.device("meta"):
        model = new_model(m)
    for i, block in enumerate(model.blocks):
        # What shards a block stays outside of what is compiled.
        model.blocks[i] = fully_shard(torch.compile(block) if compiled else block, mp_policy=policy)
    if compiled:
        model.norm = torch.compile(model.norm)
    fully_shard(model, mp_policy=policy)
    model.to_empty(device=device)
    fill(model)
    set_positions(model, m, length, device)
    return model


class WithLoss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, labels):
        return F.cross_entropy(self.model(ids).flatten(0, 1), labels.flatten())


def build(m, length, o, device):
    """What gives logits from ids, what gives the loss from ids and labels, and the parameters."""
    wrap = (lambda f: f) if o.eager else torch.compile
    if o.parallel == "fsdp2":
        model = sharded_model(m, length, device, not o.eager)
        loss = wrap(lambda logits, labels: F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten()))
        return model, lambda ids, labels: loss(model(ids), labels), list(model.parameters())
    model = new_model(m)
    set_positions(model, m, length, device)
    model.to(device)
    # The loss belongs to the compiled part, so that its passes over the logits are fused.
    with_loss = WithLoss(model)
    if o.parallel == "ddp":
        from torch.nn.parallel import DistributedDataParallel
        with_loss = DistributedDataParallel(with_loss, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True)
    return wrap(model), wrap(with_loss), list(model.parameters())


def timed(step, o, device):
    """Seconds of a step, of the slowest rank, and what the last one gave."""
    cuda, ranks = device.type == "cuda", o.ranks
    for _ in range(o.warmup):
        last = step()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    if ranks > 1:
        torch.distributed.barrier()
    start = time.perf_counter()
    for _ in range(o.steps):
        last = step()
    if cuda:
        torch.cuda.synchronize()
    return most((time.perf_counter() - start) / o.steps, ranks, device), last


def most(value, ranks, device):
    if ranks == 1:
        return value
    value = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return value.item()


def measure(name, o, device):
    m, length, batch = read_shape(name)
    batch, length = o.batch or batch, o.seq_len or length
    torch.manual_seed(1 + o.rank)
    cuda = device.type == "cuda"
    logits_of, loss_of, parameters = build(m, length, o, device)
    autocast = o.precision == "bf16" and o.parallel != "fsdp2"
    precision = torch.autocast(device.type, torch.bfloat16) if autocast else contextlib.nullcontext()
    ids = torch.randint(m["vocab_size"], (batch, length + 1), device=device)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01, **({"fused": True} if cuda else {}))

    def train():
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = loss_of(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss

    @torch.no_grad()
    def forward():
        with precision:
            return logits_of(ids[:, :-1])

    seconds, last = timed(forward if o.forward else train, o, device)
    tok_s = o.ranks * batch * length / seconds
    flop = flop_per_token(m, length) / (3 if o.forward else 1)
    return {
        "model": name, "mode": "forward" if o.forward else "train", "precision": o.precision, "compiled": not o.eager, "micro_batch": batch, "seq_len": length,
        "ranks": o.ranks, "parallel": o.parallel, "tok_s": tok_s, "ms": 1000 * seconds, "mfu": tok_s * flop / PEAK / o.ranks if cuda else None,
        "loss": None if o.forward else last.item(), "peak_bytes": most(torch.cuda.max_memory_allocated(), o.ranks, device) if cuda else None,
        "torch": torch.__version__, "device": torch.cuda.get_device_name() if cuda else "cpu", "steps": o.steps, "warmup": o.warmup,
    }


def join(o):
    """This process's device; what torchrun started becomes one of its ranks."""
    o.rank, o.ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if (o.ranks > 1) != (o.parallel != "none"):
        sys.exit(f"{o.ranks} ranks and --parallel {o.parallel} do not go together: torchrun --standalone --nproc-per-node N "
                 "torch_rival_gpu.py MODEL --parallel ddp|fsdp2")
    if o.parallel == "fsdp2" and o.precision != "bf16":
        sys.exit(f"--parallel fsdp2 is measured in bf16 alone, not in {o.precision}")
    local = int(os.environ.get("LOCAL_RANK", 0))
    if not torch.cuda.is_available():
        device = torch.device("cpu")
    else:
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if o.ranks > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", **({"device_id": device} if device.type == "cuda" else {}))
    return device


def main():
    p = argparse.ArgumentParser(description="training and forward speed of the bench models in PyTorch")
    p.add_argument("models", nargs="*")
    p.add_argument("--check", metavar="CASE.h5")
    p.add_argument("--batch", type=int, help="sequences of a rank; the config's when not given")
    p.add_argument("--seq-len", type=int, help="tokens of a sequence; the config's when not given")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--warmup", type=int, default=5)
    p.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    p.add_argument("--parallel", choices=("none", "ddp", "fsdp2"), default="none", help="under torchrun")
    p.add_argument("--forward", action="store_true")
    p.add_argument("--eager", action="store_true", help="without torch.compile")
    o = p.parse_args()
    Attention.forward = fused_attention
    if o.check:
        torch_rival.check(o.check)
    device = join(o)
    for name in o.models:
        line = json.dumps(measure(name, o, device))
        if o.rank == 0:
            print(line, flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.compiler.reset()
    if o.ranks > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
