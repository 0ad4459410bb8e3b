#!/usr/bin/env python3
"""What a step costs on R GPUs: a model of two queues, computation and exchange, over the units of a bench model.

It has no fitted constants. It takes what was measured on one machine: milliseconds of a micro-batch on one GPU, the rates of exchanges (psann_bench exchange) and of copies; and
for what lies beyond it a rate per GPU of the network. docs/scaling.md says what it leaves out.

    launch/scaling_model.py [--host GPUS] [--link GB/s] [--latency µs] [--network Gb/s] [--network-latency µs] [--copy GB/s] [MODEL=MS …]

prints the table of predictions: efficiency against as many times one GPU, weak scaling. MODEL=MS: a bench model and the time of its step on one GPU, with the
micro-batch of its config; the table of docs/scaling.md without.
"""
import argparse
import configparser
import dataclasses
import pathlib
import sys

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs" / "bench"
GRAD, COMPUTE = 4, 2  # bytes of an element
UPDATE_BYTES = 30  # read and written by AdamW for an element: gradient, master, two moments, copy in the compute type
RING = 3  # buffers for gathered units
NETWORK = 50e9 * 0.9  # bytes a second of a GPU: 400 Gb/s, of which a tenth goes to the protocol
NETWORK_LATENCY = 3e-6
STRATEGIES = ("ddp", "shard_optimizer", "full_shard", "hybrid")
MEASURED = {"124m": 59.48, "1b3": 253.56, "7b": 336.97}  # ms of a step on one H200: reports/h200_2026-11-28.md, fp8_h200_2026-11-30/report.md


@dataclasses.dataclass
class Machine:
    gpus_a_host: int
    link: float  # bytes a second that a GPU sends inside a host, while it receives as many
    network: float  # the same between hosts
    latency: float  # seconds of an exchange inside a host, beside its bytes
    network_latency: float  # of each host more, as messages go out one by one
    copy: float  # bytes a second of the GPU's memory, read and written


@dataclasses.dataclass
class Model:
    name: str
    units: list  # elements of embed, blocks, head
    forward: list  # seconds of each unit's forward for a micro-batch
    backward: list

    @property
    def elements(self):
        return sum(self.units)


def bench_model(name, micro_batch_ms):
    """The units of configs/bench/NAME.ini; the time of a micro-batch, without the update, is shared by their FLOP, a third of it forward."""
    ini = configparser.ConfigParser(inline_comment_prefixes=(";",))
    ini.read(CONFIGS / f"{name}.ini")
    m, T = ini["model"], ini.getint("data", "seq_len")
    D, L, M, V = (m.getint(k) for k in ("d_model", "n_layers", "d_mlp", "vocab_size"))
    block, head = 4 * D * D + 2 * D * M, D * (-(-V // 128) * 128)
    flop = [0.0] + [block + T * D] * L + [head]  # causal attention: T · D products of a block a token
    seconds = micro_batch_ms / 1000
    return Model(name, [V * D] + [block] * L + [head], [seconds / 3 * f / sum(flop) for f in flop], [seconds * 2 / 3 * f / sum(flop) for f in flop])


def exchange(machine, ranks, size):
    """Seconds in which every one of `ranks` neighbouring GPUs gets, or gives away, its share of `size` bytes: a gather, or an all-to-all of slices."""
    if ranks == 1:
        return 0.0
    hosts = max(1, ranks // machine.gpus_a_host)
    inside = min(ranks, machine.gpus_a_host)
    near = size * (inside - 1) / ranks / machine.link
    far = size * (ranks - inside) / ranks / machine.network
    return machine.latency + (hosts - 1) * machine.network_latency + max(near, far)


def across(machine, hosts, size):
    """The same among GPUs of as many hosts, one of each."""
    if hosts == 1:
        return 0.0
    return machine.latency + (hosts - 1) * machine.network_latency + size * (hosts - 1) / hosts / machine.network


class Queues:
    """Two queues; an exchange starts when what it needs has been computed and the ones before it are done."""

    def __init__(self):
        self.main = self.comm = self.waited = self.exchanging = 0.0

    def compute(self, seconds, needs=0.0):
        self.waited += max(0.0, needs - self.main)
        self.main = max(self.main, needs) + seconds

    def exchange(self, seconds, needs=None):
        self.comm = max(self.comm, self.main if needs is None else needs) + seconds
        self.exchanging += seconds
        return self.comm


def step(model, machine, strategy, ranks, accumulate=1, shard=None):
    """Seconds of a step, of them exposed, and of exchange in all. shard: ranks of a shard under hybrid."""
    shard = {"hybrid": shard or machine.gpus_a_host}.get(strategy, ranks)
    shard = min(shard, ranks)
    replicas = ranks // shard
    sharded = strategy in ("full_shard", "hybrid")
    rounds = sharded or strategy == "shard_grad"
    q, n = Queues(), len(model.units)

    def reduce(u):
        t = exchange(machine, shard, model.units[u] * GRAD)
        if replicas > 1:
            t += 2 * across(machine, replicas, model.units[u] * GRAD / shard)
        if strategy == "ddp":
            t += exchange(machine, ranks, model.units[u] * GRAD)  # the sum goes to all
        # The sums are kernels: what the parts' and the sum's bytes cost is taken from the products beside them.
        sums = ((shard + 1) * model.units[u] / shard + (replicas > 1) * (replicas + 1) * model.units[u] / ranks) * GRAD / machine.copy
        q.compute(sums)
        return q.exchange(t + sums)

    def gather(u):
        return q.exchange(exchange(machine, shard, model.units[u] * COMPUTE))

    arrived = [0.0] * n
    if strategy in ("shard_optimizer", "shard_grad"):  # weights of the step before are still on their way
        arrived = [gather(u) for u in range(n)]
    elif sharded:
        for u in range(RING):
            arrived[u] = gather(u)
    for batch in range(accumulate):
        fetched = RING if sharded and batch == 0 else 0
        for u in range(n):
            if sharded:
                while fetched < n and fetched < u + RING:
                    arrived[fetched] = gather(fetched)
                    fetched += 1
            q.compute(model.forward[u], arrived[u] if batch == 0 or sharded else 0.0)
        fetched = n - RING  # the last ones are still there
        for u in reversed(range(n)):
            if sharded and u > 0:
                while fetched > 0 and fetched > u - RING:
                    fetched -= 1
                    if fetched > 0:
                        arrived[fetched] = gather(fetched)
            q.compute(model.backward[u], arrived[u] if sharded and u > 0 else 0.0)
            if ranks > 1 and (rounds or batch == accumulate - 1):
                reduce(u)
    share = 1 if strategy == "ddp" else shard
    q.compute(model.elements * UPDATE_BYTES / share / machine.copy, q.comm if ranks > 1 else 0.0)
    return q.main, q.waited, q.exchanging


def efficiency(model, machine, strategy, ranks, accumulate=1, shard=None):
    """Tokens a second of so many GPUs over as many times one."""
    one = step(model, machine, "ddp", 1, accumulate)[0]
    return one / step(model, machine, strategy, ranks, accumulate, shard)[0]


def of_step(name, ms, machine):
    """The bench model whose whole step takes so long on one GPU, update included."""
    update = bench_model(name, 1.0).elements * UPDATE_BYTES / machine.copy
    if ms / 1000 <= update:
        raise SystemExit(f"scaling_model: {name} takes {ms} ms, but its update alone takes {1000 * update:.1f} ms at {machine.copy / 1e9:.0f} GB/s; give the time of a whole step")
    return bench_model(name, ms - 1000 * update)


def table(machine, steps):
    lines = ["| model | micro-batches a rank | GPUs | " + " | ".join(STRATEGIES) + " |", "|" + "---|" * (3 + len(STRATEGIES))]
    for name, ms in steps.items():
        model = of_step(name, ms, machine)
        for accumulate in (1, 8):
            for ranks in (2, 8, 64, 512, 4096):
                cells = [f"{efficiency(model, machine, s, ranks, accumulate):.2f}" for s in STRATEGIES]
                lines.append(f"| {name} | {accumulate} | {ranks} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("steps", nargs="*", metavar="MODEL=MS")
    p.add_argument("--host", type=int, default=8, metavar="GPUS", help="of a host (8)")
    p.add_argument("--link", type=float, default=374, metavar="GB/s", help="that a GPU sends inside a host (374)")
    p.add_argument("--latency", type=float, default=13, metavar="µs", help="of an exchange (13)")
    p.add_argument("--network", type=float, default=400, metavar="Gb/s", help="of a GPU between hosts, of which a tenth is lost (400)")
    p.add_argument("--network-latency", type=float, default=1e6 * NETWORK_LATENCY, metavar="µs", help="of each host more (3)")
    p.add_argument("--copy", type=float, default=4240, metavar="GB/s", help="of a GPU's memory, read and written (4240)")
    o = p.parse_args()
    try:
        steps = {name: float(ms) for name, ms in (s.split("=") for s in o.steps)} or MEASURED
    except ValueError:
        p.error(f"'{' '.join(o.steps)}' is not MODEL=MS …, as in 1b3=253.6")
    for name in steps:
        if not (CONFIGS / f"{name}.ini").exists():
            p.error(f"there is no bench model '{name}' in configs/bench")
    machine = Machine(o.host, o.link * 1e9, o.network / 400 * NETWORK, o.latency * 1e-6, o.network_latency * 1e-6, o.copy * 1e9)
    print(table(machine, steps), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
