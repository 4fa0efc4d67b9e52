"""A large volume under a ceiling of memory: in a process of its own, whose high-water mark is read at its end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import json, sys
import numpy as np, torch
from medwvae.inference import memory
from medwvae.inference.footprint import measure
from medwvae.inference.whole import from_array, infer
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement

source, out, ceiling = sys.argv[1:]
torch.manual_seed(0)
model = WaveletVAE(dims=3, blocks=1).eval()
torch.nn.init.normal_(model.encoders[0].head.weight, std=0.02)

def restore(x):
    with torch.no_grad():
        return model(Measurement(x)).image

image = np.load(source, mmap_mode="r")
written = np.lib.format.open_memmap(out, "w+", np.float32, image.shape)
found = {}
if ceiling == "none":
    written[:] = restore(torch.from_numpy(np.array(image))[None])[0].numpy()
else:
    footprint = measure(restore, model.alignment())
    plan = infer(restore, from_array(image), written, footprint, max_memory=memory.parse_size(ceiling))
    found = {"tiles": plan.count, "exact": plan.exact}
print(json.dumps(found | {"peak": memory.peak()}))
"""


def restored(source: Path, out: Path, ceiling: str) -> dict[str, float]:
    command = [sys.executable, "-c", SCRIPT, str(source), str(out), ceiling]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=1800, check=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


@pytest.mark.slow
def test_a_large_volume_under_two_gibibytes_has_the_voxels_of_the_whole(tmp_path: Path) -> None:
    source = tmp_path / "in.npy"
    rng = np.random.default_rng(0)
    np.save(source, rng.random((1, 256, 256, 192), np.float32))
    found = restored(source, tmp_path / "tiled.npy", "2 GiB")
    assert found["peak"] <= 2 * 2**30
    assert found["exact"]
    assert found["tiles"] > 1
    restored(source, tmp_path / "whole.npy", "none")
    tiled, whole = (np.load(tmp_path / name, mmap_mode="r") for name in ("tiled.npy", "whole.npy"))
    assert float(np.abs(tiled - whole).max()) <= 1e-5
    assert float(np.abs(whole - np.load(source, mmap_mode="r")).max()) > 0.01
