"""CT: line integrals against scikit-image, analytic discs and (where there is one) ASTRA; back-projection likewise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import shepp_logan_phantom
from skimage.transform import iradon, radon, resize

from medwvae.operators import Radon, fan_beam, low_dose, parallel_beam
from tests.operators.cases import generator, real

SIZE = 65


def phantom(size=SIZE):
    return resize(shepp_logan_phantom(), (size, size), anti_aliasing=True)


def tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image))[None, None]


def circle(size=SIZE):
    return np.hypot(*(np.mgrid[:size, :size] - (size - 1) / 2)) < size // 2 - 1


def disc(radius, size=SIZE, fine=8):
    """A disc, each pixel the share of it that is inside."""
    places = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = np.hypot(places[:, None], places[None, :]) < radius
    return inside.reshape(size, fine, size, fine).mean((1, 3))


def quality(image, truth):
    return 10 * np.log10(truth.max() ** 2 / np.mean((image - truth)[circle(len(truth))] ** 2))


@pytest.mark.parametrize("views", [30, 60])
def test_parallel_projections_are_scikit_images_within_its_own_interpolation(views):
    beam = parallel_beam((SIZE, SIZE), views, detectors=SIZE)
    sinogram = Radon(beam).forward(tensor(phantom()))[0, 0].numpy()
    theirs = radon(phantom(), np.array(beam.angles), circle=True).T
    assert np.linalg.norm(sinogram - theirs) <= 0.02 * np.linalg.norm(theirs)


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_along_the_axes_projections_are_sums(angle):
    image = real((1, 1, 9, 9), 0)
    beam = parallel_beam((9, 9), 1, start=angle, detectors=9)
    sums = image.sum(-2) if angle == 0 else image.sum(-1).flip(-1)
    torch.testing.assert_close(Radon(beam).forward(image)[:, :, 0], sums, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [parallel_beam, fan_beam])
def test_projections_of_a_disc_are_its_chords(make):
    beam = make((SIZE, SIZE), 7)
    sinogram = Radon(beam).forward(tensor(disc(20.0)))[0, 0].numpy()
    distance = np.abs(beam.offsets)
    if beam.source is not None:
        distance = beam.source * np.sin(np.arctan(np.abs(beam.offsets) / (beam.source + beam.detector)))
    chords = 2 * np.sqrt(np.maximum(20.0**2 - distance**2, 0))
    # Within a pixel of the edge the chord is steep.
    inside = np.abs(distance - 20) > 1.5
    assert np.abs(sinogram - chords)[:, inside].max() <= 0.5
    assert np.abs((sinogram - chords).mean(1)).max() <= 0.05 * chords.mean()


@settings(max_examples=20)
@given(angle=st.sampled_from([0.0, 90.0, 180.0]), height=st.integers(4, 16), width=st.integers(4, 16))
def test_a_view_along_an_axis_holds_the_whole_image(angle, height, width):
    # Whether the detector's elements meet pixels or the space between them.
    image = real((1, 1, height, width), 0)
    beam = parallel_beam((height, width), 1, start=angle, detectors=height + width)
    torch.testing.assert_close(Radon(beam).forward(image).sum(), image.sum())


@pytest.mark.parametrize("window", ["ramp", "hann"])
def test_filtered_back_projection_is_scikit_images(window):
    angles = np.arange(40) * 180 / 40
    sinogram = radon(phantom(), angles, circle=True)
    beam = parallel_beam((SIZE, SIZE), 40, detectors=SIZE)
    ours = Radon(beam).filtered_back_projection(tensor(sinogram.T), window)[0, 0].numpy()
    theirs = iradon(sinogram, angles, circle=True, filter_name=window)
    # Its Hann window is numpy.hanning, one sample wider than the transform.
    np.testing.assert_allclose(ours[circle()], theirs[circle()], rtol=0, atol=1e-10 if window == "ramp" else 2e-3)


def test_a_fan_reconstructs_as_well_as_parallel_rays():
    truth = phantom()
    parallel, fan = (Radon(make((SIZE, SIZE), 180)) for make in (parallel_beam, fan_beam))
    found = [quality(a.pseudo_inverse(a.forward(tensor(truth)))[0, 0].numpy(), truth) for a in (parallel, fan)]
    assert min(found) > 22
    assert abs(found[0] - found[1]) < 1.5


def test_views_around_the_whole_circle_are_counted_once():
    truth = tensor(phantom())
    half, whole = (Radon(parallel_beam((SIZE, SIZE), v, arc=a)) for v, a in ((60, 180.0), (120, 360.0)))
    one, two = (a.pseudo_inverse(a.forward(truth)) for a in (half, whole))
    torch.testing.assert_close(one, two, rtol=0, atol=5e-3)


def test_an_arc_that_counts_some_rays_twice_is_refused():
    with pytest.raises(ValueError, match="at most 180 degrees, or 360; not 270"):
        parallel_beam((SIZE, SIZE), 60, arc=270.0)


def test_more_views_help_and_a_limited_arc_hurts():
    truth = phantom()

    def found(views, arc=180.0):
        a = Radon(parallel_beam((SIZE, SIZE), views, arc=arc))
        return quality(a.pseudo_inverse(a.forward(tensor(truth)))[0, 0].numpy(), truth)

    assert found(30) < found(60) < found(120)
    assert found(60, 90.0) < found(60) - 2


def test_few_steps_of_data_consistency_improve_filtered_back_projection():
    truth = tensor(phantom())
    a = Radon(parallel_beam((SIZE, SIZE), 60))
    y = a.forward(truth)
    start = a.pseudo_inverse(y)
    better = a.project(start, y)
    assert float((a.forward(better) - y).norm()) < 0.25 * float((a.forward(start) - y).norm())
    assert float((better - truth).norm()) < float((start - truth).norm())


def test_a_stack_is_projected_slice_by_slice():
    volume = real((2, 1, 3, 9, 8), 0)
    beam = parallel_beam((9, 8), 5)
    stack = Radon(beam, dims=3).forward(volume)
    for index in range(3):
        torch.testing.assert_close(stack[:, :, index], Radon(beam).forward(volume[:, :, index]))


def test_blocks_of_views_are_the_views(monkeypatch):
    x, beam = real((1, 1, 9, 8), 0), parallel_beam((9, 8), 7)
    whole = Radon(beam)
    y, start = whole.forward(x), whole.pseudo_inverse(whole.forward(x))
    monkeypatch.setattr("medwvae.operators.beams.BLOCK", 2 * 9 * beam.detectors * 3)
    torch.testing.assert_close(whole.forward(x), y)
    torch.testing.assert_close(whole.pseudo_inverse(y), start)


def test_a_source_inside_the_image():
    with pytest.raises(ValueError, match="outside the image"):
        fan_beam((10, 10), 4, source=5.0)


def test_low_dose_is_lodopabs_formula_on_the_same_counts():
    sinogram = 0.02 * real((1, 1, 30, 40), 0, torch.float32).abs()
    noisy = low_dose(sinogram, 4096, generator(1), scale=81.35858)
    counts = torch.poisson(4096 * torch.exp(-sinogram * 81.35858), generator=generator(1)).numpy()
    expected = -np.log(np.maximum(0.1, counts) / 4096) / 81.35858
    np.testing.assert_allclose(noisy.numpy(), expected, rtol=0, atol=1e-6)


def test_low_dose_is_nearly_unbiased_and_its_variance_follows_the_photons():
    p = 2.0
    noisy = low_dose(torch.full((1, 1, 200, 200), p, dtype=torch.float64), 1e4, generator(0), electronic=10.0)
    variance = (1e4 * np.exp(-p) + 100) / (1e4 * np.exp(-p)) ** 2
    assert float(noisy.mean()) == pytest.approx(p, abs=5 * np.sqrt(variance) / 200 + variance)
    assert float(noisy.var()) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("make", [parallel_beam, fan_beam])
def test_projections_are_astras(make):
    astra = pytest.importorskip("astra", reason="ASTRA is a benchmark extra", exc_type=ImportError)
    beam = make((SIZE, SIZE), 12)
    volume = astra.create_vol_geom(SIZE, SIZE)
    # Its source stands on the other side, where its detector runs the other way.
    angles = np.radians(beam.angles) + (0 if beam.source is None else np.pi)
    if beam.source is None:
        geometry = astra.create_proj_geom("parallel", 1.0, beam.detectors, angles)
        projector = astra.create_projector("linear", geometry, volume)
    else:
        geometry = astra.create_proj_geom("fanflat", beam.pitch, beam.detectors, angles, beam.source, beam.detector)
        projector = astra.create_projector("line_fanflat", geometry, volume)
    identifier, theirs = astra.create_sino(phantom().astype(np.float32), projector)
    ours = Radon(beam).forward(tensor(phantom()))[0, 0].numpy()
    astra.data2d.delete(identifier)
    # For a fan it has the lengths of rays in pixels, without interpolation.
    tolerance = 1e-4 if beam.source is None else 0.03
    theirs = theirs if beam.source is None else theirs[:, ::-1]
    assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)
