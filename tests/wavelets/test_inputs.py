"""What may be transformed, and what is refused with which words."""

import pytest
import torch
from monai.data import MetaTensor

from medwvae.wavelets import MODES, analyse, dwt, idwt, synthesise
from tests.wavelets.cases import image, tensors

BANKS = pytest.mark.parametrize("wavelet", ["haar", "db3"])


def check_same(found, expected):
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b)


@BANKS
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(2, 3),
        lambda x: x[:, :, ::2, 1::2],
        lambda x: x.flip(3),
        lambda x: x[:, :1].expand(-1, 4, -1, -1),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[1:, 1:, 3:, 2:],
    ],
)
def test_the_layout_in_memory_does_not_matter(view, wavelet):
    x = view(image(13, 18))
    found = dwt(x, 2, wavelet=wavelet, mode="symmetric")
    check_same(found, dwt(x.clone(memory_format=torch.contiguous_format), 2, wavelet=wavelet, mode="symmetric"))
    scattered = found.map_stacked(lambda _, __, b: b.transpose(-1, -2).contiguous().transpose(-1, -2))
    assert not scattered.approximation.is_contiguous()
    assert torch.equal(idwt(scattered), idwt(found))


@BANKS
@pytest.mark.parametrize(("batch", "channels"), [(0, 2), (3, 0)])
def test_an_empty_batch_has_empty_coefficients(batch, channels, wavelet):
    x = image(9, 14, batch=batch, channels=channels).requires_grad_()
    full = dwt(image(9, 14, batch=1, channels=1), (2, 1), wavelet=wavelet, mode="reflect")
    found = dwt(x, (2, 1), wavelet=wavelet, mode="reflect")
    assert found.approximation.shape == (batch, channels, *full.approximation.shape[2:])
    for a, b in zip(found.details, full.details, strict=True):
        assert a.shape == (batch, b.shape[1], channels, *b.shape[3:])
    back = idwt(found)
    assert back.shape == x.shape
    back.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@BANKS
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_images_are_transformed_by_parts(dtype, wavelet):
    real = torch.float32 if dtype == torch.complex64 else torch.float64
    x = torch.complex(image(11, 8, dtype=real), image(11, 8, seed=1, dtype=real))
    parts = [dwt(part.contiguous(), 2, wavelet=wavelet, mode="symmetric") for part in (x.real, x.imag)]
    found = dwt(x, 2, wavelet=wavelet, mode="symmetric")
    for whole, re, im in zip(tensors(found), *map(tensors, parts), strict=True):
        assert whole.dtype == dtype
        assert torch.equal(whole, torch.complex(re, im))
    torch.testing.assert_close(idwt(found), x)
    # A lazy conjugate, as k-space code makes it.
    check_same(dwt(x.conj(), 2, wavelet=wavelet), dwt(x.conj().resolve_conj(), 2, wavelet=wavelet))


@BANKS
def test_a_complex_image_has_a_gradient(wavelet):
    x = torch.complex(image(5, 4, batch=1, channels=1), image(5, 4, batch=1, channels=1, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tensors(dwt(x, 1, wavelet=wavelet)), (x,))


@BANKS
def test_monai_meta_tensors(wavelet):
    x = image(9, 8, 6)
    found = dwt(MetaTensor(x), 2, 3, wavelet)
    check_same(found.map_stacked(lambda _, __, b: b.as_subclass(torch.Tensor)), dwt(x, 2, 3, wavelet))
    torch.testing.assert_close(idwt(found).as_subclass(torch.Tensor), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_integers_are_refused(dtype):
    with pytest.raises(TypeError, match=r"floating-point.*x\.float\(\)"):
        dwt(torch.zeros(1, 1, 4, 4, dtype=dtype), 1)


@pytest.mark.parametrize("levels", [0, -1, (0, 0), (1,), (1, 1, 1), (2, -1)])
def test_wrong_levels_are_refused(levels):
    with pytest.raises(ValueError, match="levels"):
        dwt(image(4, 4), levels)


def test_wrong_numbers_of_axes_are_refused():
    with pytest.raises(ValueError, match="axes"):
        dwt(image(4, 4), 1, 3)
    with pytest.raises(ValueError, match="spatial axes"):
        analyse(image(4, 4), 3)
    with pytest.raises(ValueError, match="1, 2 or 3 spatial axes"):
        dwt(image(2, 2, 2, 2), 1, 4)


@pytest.mark.parametrize("axes", [(), (1, 0), (0, 0), (2,), (-1,)])
def test_wrong_axes_are_refused(axes):
    with pytest.raises(ValueError, match="axes must be ascending"):
        analyse(image(4, 4), 2, axes=axes)
    with pytest.raises(ValueError, match="axes must be ascending"):
        synthesise(image(2, 2), torch.zeros(2, 3, 3, 2, 2), axes=axes)


@pytest.mark.parametrize("wavelet", ["no such", "mexh", "db39"])
def test_unknown_wavelets_are_refused_and_the_families_named(wavelet):
    with pytest.raises(ValueError, match="families are haar, db"):
        dwt(image(4, 4), 1, wavelet=wavelet)


def test_the_families_named_are_discrete():
    with pytest.raises(ValueError, match="families") as refused:
        dwt(image(4, 4), 1, wavelet="no such")
    assert "gaus" not in str(refused.value)


@pytest.mark.parametrize("mode", ["no such", "antisymmetric"])
def test_unknown_modes_are_refused_and_the_known_named(mode):
    for wavelet in ("haar", "db2"):
        with pytest.raises(ValueError, match=", ".join(MODES)):
            dwt(image(4, 4), 1, wavelet=wavelet, mode=mode)


def test_an_axis_without_samples_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        dwt(image(4, 0), 1)


@pytest.mark.parametrize("bands", [(2, 2, 3, 4, 4), (2, 3, 4, 4), (2, 3, 3, 4, 5), (1, 3, 3, 4, 4)])
def test_details_that_do_not_belong_to_the_approximation_are_refused(bands):
    with pytest.raises(ValueError, match="belong to this approximation"):
        synthesise(image(4, 4), torch.zeros(bands))


@BANKS
def test_a_shape_that_does_not_fit_the_coefficients_is_refused(wavelet):
    approximation, details = analyse(image(8, 8), 2, wavelet)
    with pytest.raises(ValueError, match=r"shape \(8, 9\) has \(4, 5\) coefficients"):
        synthesise(approximation, details, (8, 9), wavelet)


@pytest.mark.parametrize("shape", [(8,), (8, 8, 8)])
def test_a_shape_of_another_number_of_axes_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        synthesise(*analyse(image(8, 8)), shape)
