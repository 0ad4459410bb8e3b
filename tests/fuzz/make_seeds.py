#!/usr/bin/python3
"""Makes tests/fuzz/seeds anew: small inputs of each kind that the fuzz targets start from. They are committed; this is how
they came about.

usage: tests/fuzz/make_seeds.py BUILD-FOLDER      needs h5py, numpy, and spm_train of the package sentencepiece
"""
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy

here = pathlib.Path(__file__).resolve().parent
project = here.parent.parent
build = pathlib.Path(sys.argv[1]).resolve()
work = pathlib.Path(tempfile.mkdtemp())
programs = build / "src/programs"


def seed(target, name, data):
    path = here / "seeds" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def run(*words):
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work)


for config in ("quickstart.ini", "bench/tiny.ini", "124m.ini"):
    seed("config", config.replace("/", "-"), (project / "configs" / config).read_bytes())
seed("config", "mark-and-crlf.ini", b"\xef\xbb\xbf[run]\r\ndir = a b\r\n\r\n; note\r\n[model]\r\nd_model = 64 # width\r\nsine_amp_range = 0.1, none\r\n")
seed("config", "wave.ini", b"[run]\ndir=x\n[data]\ntrain=t\nval=v\n[model]\nbase=waveresnet\nwave_interleave=true\nwave_replace=yes\n[train]\nmax_steps=9\n"
     b"precision=fp16\nloss_scale=dynamic\ndecay_exclude=norm, bias\n")
seed("config", "long.ini", b"[run]\ndir = " + b"deep/" * 200 + b"\n")
seed("override", "some", b"train.lr=0.001\nrun.dir=/tmp/x y\nmodel.sine_amp_bounds=none, 2\ntrain.precision=fp16\ntrain.loss_scale=65536\n")
seed("override", "odd", b"=\n.=\ntrain.=1\ntrain.lr\nlr=1\nmodel.d_model=0x10\ntrain.lr=nan\nrun.seed=99999999999999999999\nmodel.sine_learnable=amplitude,decay\n")
seed("text", "lines", b"\x01one\n\ntwo\r\nthree")
seed("text", "blank", b"\x02one\ntwo\n \t\r\n\nthree\n")
seed("text", "mark", b"\x03one\n%\ntwo\n%\r\n%\nthree % four\n%")
seed("text", "whole", b"\x00any \xff\xc3( bytes\0 \xe2\x96\x81\n")
seed("text", "json", b'\x08{"text": "one \\u00fc \\n"}\n\n{"id": [1, {"a": null}], "text": "two \\ud83d\\udc33"}\r\n{"text": 3}\n')
seed("text", "json-skipping", b'\x0c{"text": "one"}\n{"text"\n[[[[1]]]]\n{"text": "a\\u0000b"}\n{"text": ""}\n{"text": "\xff"}')

tokens = b"".join(struct.pack("<H", t) for t in [7, 1, 2, 3, 7, 4, 5, 7])
header = struct.pack("<3i", 20240520, 1, 8) + b"\0" * (1024 - 12)
seed("import", "llmc", struct.pack("<BHH", 0, 7, 7) + header + tokens)
seed("import", "llmc-twice", struct.pack("<BH", 6, 999) + header + tokens)
seed("import", "raw", struct.pack("<BHH", 1, 65535, 7) + tokens)
seed("import", "foreign", struct.pack("<BHH", 0, 7, 7) + struct.pack("<3i", 20251013, 2, 8) + b"\0" * 1012 + tokens * 2)

(work / "text").mkdir()
(work / "text/a ü.txt").write_text("".join(f"the {a} sees the {b}.\n" for a in ("river", "stone", "bird") for b in ("hill", "sun", "rain")) * 4)
run("spm_train", "--input=text/a ü.txt", "--model_prefix=m", "--vocab_size=290", "--byte_fallback=true", "--hard_vocab_limit=false",
    "--normalization_rule_name=identity", "--add_dummy_prefix=false", "--remove_extra_whitespaces=false", "--eos_id=2")
model = (work / "m.model").read_bytes()
(work / "rules.tsv").write_text("41\t61\nFB01\t66 69\n")
run("spm_train", "--input=text/a ü.txt", "--normalization_rule_tsv=rules.tsv", "--model_prefix=n", "--vocab_size=60", "--hard_vocab_limit=false", "--model_type=bpe")
other = (work / "n.model").read_bytes()
points = b"".join(struct.pack("<I", p) for p in (10, 32, 97, 98, 0xFC, 0x1F433))
seed("tokenizer", "bytes", b"\0")
seed("tokenizer", "chars", b"\1" + points)
seed("tokenizer", "chars-8", struct.pack("<BH", 5, 8) + points)
seed("tokenizer", "sentencepiece", b"\2" + model)
seed("tokenizer", "sentencepiece-bpe", b"\2" + other)

run(programs / "psann_data", "build", "--tokenizer", "chars", "--train-out", "s.h5", "--split-documents", "line", "text")
store = (work / "s.h5").read_bytes()
seed("store", "whole", b"\0" + store)
seed("store", "cut", b"\0" + store[:700])

edits = {
    "an-integer": bytes([0, 1, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0]),
    "a-text": bytes([1, 1, 6, 20, 0, 4, 65, 66, 67, 0]),
    "no-such": bytes([13, 3, 1]),
    "another-set": bytes([12, 5, 6, 1, 17, 200, 0, 1, 0]),
    "external": bytes([12, 5, 7, 3, 17, 16, 0, 2]),
    "virtual": bytes([13, 5, 7, 3, 17, 16, 0, 3]),
    "links": bytes([12, 2, 2, 13, 3, 3, 14, 2, 4]),
    "several": bytes([2, 2, 3, 8, 14, 4, 7, 9, 4, 20, 7, 6, 4, 33, 2, 1, 0, 3, 11, 1, 9, 4, 1, 1]),
}
for name, data in edits.items():
    seed("store", "edit-" + name, b"\1" + data)
    seed("checkpoint", name, data)
    seed("golden", name, data)
for target, places in (("checkpoint", 29), ("golden", 22)):
    for place in range(places):
        seed(target, f"place-{place:02}", bytes([place, 1, 2, 4, 1, 0, 7, 3, 5]))

(work / "c").mkdir()
run(build / "tests/ckpt/ckpt_make", work / "c", 29, 3)
checkpoint = next((work / "c/checkpoints").glob("*.h5")).read_bytes()
seed("wall", "checkpoint", b"\0" + checkpoint)
with h5py.File(work / "g.h5", "w") as f:
    f.attrs.update({"base": "respsann", "vocab_size": 5, "d_model": 4, "lr": 0.1, "sine_trainable": True, "total_steps": 2, "warmup_steps": 1})
    f["input_ids"] = numpy.zeros((2, 1, 3), "i4")
    f["params/lm_head.weight"] = numpy.zeros((5, 4), "f4")
seed("wall", "golden", b"\3" + (work / "g.h5").read_bytes())
seed("wall", "store", b"\1" + store)
seed("wall", "sentencepiece", b"\2" + model)
seed("wall", "sentencepiece-bpe", b"\2" + other)
shutil.rmtree(work)
