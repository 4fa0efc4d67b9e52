import numpy as np
import pytest
import torch

from medwvae.data import nifti
from medwvae.latents.sample import sample, write_volume
from tests.latents.models import Waves


@pytest.mark.parametrize("batch", [1, 2, 3, 32])
def test_a_sample_depends_on_its_number_alone(batch):
    model = Waves()
    torch.testing.assert_close(sample(model, 5, (12, 9), batch=batch), sample(model, 7, (12, 9))[:5])


def test_seeds_and_numbers_give_different_images():
    images = torch.cat([sample(Waves(), 3, (8, 8), seed=seed) for seed in (0, 1)])
    assert len(torch.unique(images.flatten(1), dim=0)) == 6


def test_temperature_scales_the_spread():
    model = Waves()
    warm, cold = (sample(model, 4, (8, 8), temperature=t) - 0.5 for t in (1.0, 0.5))
    torch.testing.assert_close(cold, warm / 2)
    assert sample(model, 2, (8, 8), temperature=0).std() == 0


def test_a_label_reaches_the_decoder():
    model = Waves(classes=3)
    torch.testing.assert_close(sample(model, 3, (8, 8), label=2), sample(model, 3, (8, 8), label=0) + 2)


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (Waves(), {"count": 0}, "at least one"),
        (Waves(), {"shape": (8, 8, 8)}, "2 spatial axes"),
        (Waves(), {"temperature": -1.0}, "temperature"),
        (Waves(), {"label": 0}, "no classes"),
        (Waves(classes=2), {}, "0 to 1"),
        (Waves(classes=2), {"label": 2}, "got 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        sample(model, **{"count": 1, "shape": (8, 8)} | arguments)


def test_only_volumes_become_files_of_volumes(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    volume = sample(Waves(dims=3), 1, (6, 5, 4))
    write_volume(tmp_path / "one.nii.gz", volume[0], affine)
    again, own = nifti.read(tmp_path / "one.nii.gz")
    np.testing.assert_array_equal(again, volume[0, 0].numpy())
    np.testing.assert_array_equal(own, affine)
    with pytest.raises(ValueError, match="different"):
        write_volume(tmp_path / "two.nii.gz", torch.zeros(6, 5), affine)
