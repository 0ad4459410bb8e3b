"""Reads a checkpoint with h5py alone and compares every element with what was saved.

usage: read_with_h5py.py CKPT_MAKE
"""
import os
import subprocess
import sys
import tempfile

import h5py


def text(attribute):
    """Fixed-length UTF-8, which h5py gives as bytes."""
    return bytes(attribute).decode()


seed = int.from_bytes(os.urandom(7), "little")
print("SEED", seed)
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], folder, str(seed), "1000"], check=True)
    elements = open(folder + "/elements.bin", "rb").read()
    with h5py.File(folder + "/checkpoints/step_00001000.h5", "r") as file:
        expected = {}
        for line in open(folder + "/elements.txt"):
            path, offset, *shape = line.split()
            expected[path] = (int(offset), tuple(map(int, shape)))
        for path, (offset, shape) in expected.items():
            group, name = path.rsplit("/", 1)
            data = file[group][name]
            assert data.shape == shape, (path, data.shape, shape)
            assert data.dtype == "<f4", (path, data.dtype)
            assert data.chunks is None and data.compression is None, path
            raw = data[()].tobytes()
            assert raw == elements[offset : offset + len(raw)], path
            digest = text(data.attrs["digest"])
            assert len(digest) == 32 and int(digest, 16) >= 0, path
        found = {group + "/" + name for group in ("model", "optim/m", "optim/v") for name in file[group]}
        assert found == set(expected), found ^ set(expected)
        assert set(file) == {"model", "optim", "state", "config", "tokenizer", "launch"}, set(file)
        assert file["state"].attrs["step"] == 1000
        assert file["state"].attrs["loss_scale"] == 1 / 3
        assert "[model]" in text(file["config"].attrs["ini"])
        assert text(file["config"].attrs["train.micro_batch"]) == "2"
        assert "train.max_steps" not in text(file["config"].attrs["identity"])
        assert file["tokenizer"]["model"].dtype == "u1"
        assert file["launch"].attrs["ranks"] == 1
        for name in ("digest", "digest_model", "digest_optim", "digest_state", "digest_config", "digest_tokenizer"):
            assert len(text(file.attrs[name])) == 32, name
print("ok:", len(expected), "tensors")
