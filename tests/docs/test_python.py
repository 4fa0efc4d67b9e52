"""Python of the documentation, run as it stands: the blocks of a page in order, in a folder of their own.

What a page takes for given (an image, a trained network, a finished demo) is made here, small.
"""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medwvae.data import nifti
from medwvae.degradation import Denoise
from medwvae.nets.wavelet_vae import WaveletVAE
from tests.cases import head_like
from tests.docs.blocks import Block, blocks
from tests.latents.test_coefficients import model as latent_model

PAGES = [list(found) for _, found in groupby(blocks("python"), lambda block: block.page)]
Namespace = dict[str, Any]


def fidelity() -> Namespace:
    images = torch.rand(3, 6, 1, 32, 32)
    return dict(zip(("real", "samples", "training"), images, strict=True))


def latents() -> Namespace:
    image = torch.rand(1, 1, 24, 24)
    model = latent_model()
    with torch.no_grad():
        z = model.encode(image).mean
    return {"image": image, "mask": image[0, 0] > 0.7, "model": model, "z": z}


def physics() -> Namespace:
    return {"image": torch.rand(1, 1, 120, 120), "network": torch.nn.Identity()}


def tutorial() -> Namespace:
    volume, _ = head_like((24, 26, 12))
    folder = Path("results/demo/restored/denoise/wavelet_vae")
    nifti.write(folder / "sub-PHANTOM003_ses-1_t1w.nii.gz", volume, np.eye(4))
    rows = [("denoise", method, "head", "psnr", 30.0 + k) for k, method in enumerate(("nlm", "unet", "wavelet_vae"))]
    columns = ["task", "method", "region", "metric", "value"]
    pd.DataFrame(rows, columns=columns).to_csv("results/demo/metrics.csv", index=False)
    return {}


def usage() -> Namespace:
    np.save("volume.npy", np.random.default_rng(0).random((1, 12, 16, 16), dtype=np.float32))
    network = torch.nn.Conv3d(1, 1, 3, padding=1).requires_grad_(False)
    return {"network": network, "torch": torch}


def usage_posterior() -> Namespace:
    network = WaveletVAE(widths=(4, 4), blocks=1, noise="subband").eval().requires_grad_(False)
    clean = torch.rand(1, 1, 16, 16)
    simulated = Denoise(0.05, "rician")(clean, torch.ones(1), torch.Generator().manual_seed(0), None)
    return {"network": network, "measurement": simulated.measurement, "padded_shape": (1, 1, 16, 16)}


GIVEN: dict[str, tuple[Callable[[], Namespace], ...]] = {
    "fidelity.md": (fidelity,),
    "latents.md": (latents,),
    "physics.md": (physics,),
    "tutorial.md": (tutorial,),
    "usage.md": (usage, usage_posterior),
}
"""What stands before the first block of a page, the second and so on; the later ones see the earlier ones' names."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page[0].page)
def test_the_python_of_a_page_runs(page: list[Block], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: Namespace = {}
    before = GIVEN.get(page[0].page, ())
    for place, block in enumerate(page):
        if place < len(before):
            names |= before[place]()
        # Lines as in the page, so that an error says where.
        code = compile("\n" * block.line + block.text, f"docs/{block.page}", "exec")
        exec(code, names)
