"""What a step costs on R GPUs: a model of two queues, computation and exchange, over the units of a bench model.

It has no fitted constants. It takes what was measured on one machine: milliseconds of a micro-batch on one GPU, the rates of exchanges (psann_bench exchange) and of copies; and
for what lies beyond it a rate per GPU of the network. docs/scaling.md says what it leaves out.
"""
import configparser
import dataclasses
import pathlib

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs" / "bench"
GRAD, COMPUTE = 4, 2  # bytes of an element
UPDATE_BYTES = 30  # read and written by AdamW for an element: gradient, master, two moments, copy in the compute type
RING = 3  # buffers for gathered units


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
