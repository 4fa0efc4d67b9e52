"""Laws that every forward operator keeps: linear, adjoint, differentiable, its own precision, consistent with data."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.operators import Measurement, birdcage_maps
from medwvae.operators.solvers import largest_singular_value
from tests.operators.cases import BATCH, IN_3D, OPERATORS, dtypes, generator, inner, like, real, seeds, sides

every_operator = pytest.mark.parametrize("name", sorted(OPERATORS))
# The non-uniform transform takes minutes in many small iterations; tests/operators/test_radial.py has a few.
every_fast_operator = pytest.mark.parametrize("name", sorted(set(OPERATORS) - {"RadialSampling"}))
channels = st.sampled_from([1, 2])
AXES = st.sampled_from([(-1,), (-2,), (-2, -1)])


def made(name, shape, channels, seed, dtype=torch.float64):
    return OPERATORS[name](shape, channels, seed, dtype), real((BATCH, channels, *shape), seed, dtype)


@every_operator
@settings(max_examples=8)
@given(channels=channels, height=sides, width=sides, seed=seeds, dtype=dtypes)
def test_the_adjoint_is_the_adjoint(name, channels, height, width, seed, dtype):
    operator, x = made(name, (height, width), channels, seed, dtype)
    image = operator.forward(x)
    y = like(image, seed + 2)
    back = operator.adjoint(y)
    assert back.shape == x.shape
    assert back.dtype == dtype
    assert image.dtype in (dtype, dtype.to_complex())
    scale = float(image.abs().square().sum().sqrt() * y.abs().square().sum().sqrt()) + 1e-30
    # The interpolation table of the non-uniform transform is good to single precision only.
    tolerance = 1e-12 if dtype == torch.float64 and name != "RadialSampling" else 1e-5
    assert abs(float(inner(image, y) - inner(x, back))) <= tolerance * scale


@pytest.mark.parametrize("name", sorted(IN_3D))
@settings(max_examples=4)
@given(channels=channels, shape=st.tuples(st.integers(2, 4), st.integers(4, 7), st.integers(4, 7)), seed=seeds)
def test_the_adjoint_is_the_adjoint_in_three_dimensions(name, channels, shape, seed):
    operator, x = made(name, shape, channels, seed)
    image = operator.forward(x)
    y = like(image, seed + 2)
    back = operator.adjoint(y)
    assert back.shape == x.shape
    torch.testing.assert_close(inner(image, y), inner(x, back), rtol=1e-9, atol=1e-9)


@every_fast_operator
@settings(max_examples=6)
@given(channels=channels, height=sides, width=sides, seed=seeds)
def test_the_gradient_is_the_adjoint_and_the_adjoints_gradient_is_the_operator(name, channels, height, width, seed):
    operator, x = made(name, (height, width), channels, seed)
    x.requires_grad_()
    image = operator.forward(x)
    y = like(image.detach(), seed + 2)
    (gradient,) = torch.autograd.grad(inner(image, y), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-5, atol=1e-5)
    y.requires_grad_()
    back = operator.adjoint(y)
    u = real(back.shape, seed + 5)
    (gradient,) = torch.autograd.grad(inner(back, u), y)
    forward = operator.forward(u)
    torch.testing.assert_close(gradient, forward, rtol=1e-5, atol=1e-5)


@every_fast_operator
def test_it_is_linear_and_its_data_consistency_is_differentiable(name):
    operator, x = made(name, (8, 9), 1, 3)
    other = real(x.shape, 7)
    torch.testing.assert_close(
        operator.forward(2 * x - other), 2 * operator.forward(x) - operator.forward(other), rtol=1e-5, atol=1e-6
    )
    y = operator.forward(other)
    x.requires_grad_()
    for consistent in (lambda z: operator.project(z, y), lambda z: operator.proximal(z, y, 0.3)):
        (gradient,) = torch.autograd.grad(consistent(x).square().sum(), x)
        assert gradient.isfinite().all()
        step = 1e-6 * real(x.shape, 9)
        with torch.no_grad():
            change = consistent(x + step).square().sum() - consistent(x - step).square().sum()
        assert float(change) == pytest.approx(2 * float((gradient * step).sum()), rel=2e-2)


@every_operator
def test_half_precision_and_autocast_are_computed_in_single(name):
    operator, x = made(name, (8, 9), 1, 3, torch.float32)
    image = operator.forward(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(operator.forward(x), image)
        assert torch.equal(operator.adjoint(image), operator.adjoint(image))
        assert operator.project(x.bfloat16(), image).dtype == torch.float32
    assert operator.forward(x.bfloat16()).dtype == image.dtype


@every_fast_operator
@settings(max_examples=8)
@given(height=sides, width=sides, seed=seeds)
def test_projection_meets_the_data_where_it_says_so_and_never_leaves_the_truth(name, height, width, seed):
    operator, truth = made(name, (height, width), 2 if "Sampling" in name else 1, seed, torch.float32)
    y = operator.forward(truth)
    guess = real(truth.shape, seed + 1, torch.float32)
    projected = operator.project(guess, y)
    largest = float(y.abs().max()) + 1e-30
    error = float((operator.forward(projected) - y).abs().max()) / largest
    before = float((operator.forward(guess) - y).abs().max()) / largest
    if operator.exact:
        assert error <= 1e-5
        torch.testing.assert_close(operator.project(projected, y), projected, rtol=1e-4, atol=1e-4)
        start = operator.pseudo_inverse(y)
        assert float((operator.forward(start) - y).abs().max()) <= 1e-5 * largest
    else:
        assert error <= before + 1e-5
    assert float((projected - truth).norm()) <= float((guess - truth).norm()) * (1 + 1e-3)


@every_operator
def test_projection_changes_nothing_that_the_data_do_not_see(name):
    operator, x = made(name, (6, 5), 1, 3)
    basis = torch.eye(30, dtype=torch.float64).reshape(30, 1, 1, 6, 5)
    columns = [operator.forward(unit.expand(BATCH, 1, 6, 5))[:1] for unit in basis]
    matrix = torch.stack([torch.view_as_real(c).flatten() if c.is_complex() else c.flatten() for c in columns], 1)
    _, values, rows = torch.linalg.svd(matrix, full_matrices=True)
    hidden = rows[int((values > 1e-9 * values[0]).sum()) :]
    change = (operator.project(x, operator.forward(real(x.shape, 8))) - x)[0].flatten()
    assert float((hidden @ change).norm()) <= 1e-6 * float(change.norm())


@every_fast_operator
@settings(max_examples=4)
@given(height=st.integers(4, 8), width=st.integers(4, 8), seed=seeds, weight=st.floats(0.3, 5))
def test_the_proximal_map_solves_its_normal_equations(name, height, width, seed, weight):
    operator, x = made(name, (height, width), 1, seed)
    y = like(operator.forward(x), seed + 1)
    if name == "FourierSampling":  # of real images: only what a real image can give
        y = operator.forward(real(x.shape, seed + 1))
    z = operator.proximal(x, y, weight, steps=80)
    residual = operator.gradient(z, y) + weight * (z - x)
    assert float(residual.norm()) <= 1e-4 * float(operator.adjoint(y).norm() + weight * x.norm())


@every_fast_operator
@settings(max_examples=8)
@given(height=sides, width=sides, seed=seeds, axes=AXES)
def test_a_mirrored_measurement_measures_the_mirrored_image(name, height, width, seed, axes):
    operator, truth = made(name, (height, width), 2, seed)
    y = operator.forward(truth)
    mirrored: Any = Measurement(operator.adjoint(y), operator, y).flip(axes)
    torch.testing.assert_close(mirrored.operator.forward(truth.flip(axes)), mirrored.data, rtol=1e-5, atol=1e-5)
    guess = real(truth.shape, seed + 1)
    torch.testing.assert_close(
        mirrored.project(guess.flip(axes)).flip(axes), operator.project(guess, y), rtol=1e-4, atol=1e-4
    )
    if operator.mask is not None:
        assert mirrored.mask.sum() == operator.mask.sum()
    double, again = mirrored.operator.mirrored(axes, mirrored.data)
    torch.testing.assert_close(double.forward(truth), again, rtol=1e-5, atol=1e-5)


@every_operator
def test_some_images_are_measured_by_themselves(name):
    operator, x = made(name, (8, 9), 2, 3)
    measurement = Measurement(x, operator, operator.forward(x))
    one: Any = measurement[1:2].to(torch.device("cpu"))
    torch.testing.assert_close(one.operator.forward(x[1:2]), one.data, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.project(x[:1]), measurement.project(x.roll(1, 0))[1:2], rtol=1e-4, atol=1e-4)


def test_the_norm_of_coils_whose_squares_add_up_to_one_is_at_most_one():
    operator, x = made("CoilSampling", (16, 15), 2, 0)
    norm = largest_singular_value(operator.forward, operator.adjoint, x)
    assert (norm <= 1 + 1e-6).all()
    assert (norm > 0.7).all()
    total = birdcage_maps((16, 15), 4).abs().square().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=1e-5)


def test_the_largest_singular_value_is_that_of_the_matrix():
    matrix = torch.randn(7, 5, generator=generator(0), dtype=torch.float64)
    found = largest_singular_value(lambda x: x @ matrix.mT, lambda y: y @ matrix, real((3, 5), 1), steps=200)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(matrix, 2).expand(3), rtol=1e-6, atol=0)
