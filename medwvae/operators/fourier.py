"""k-space: the unitary Fourier transform, sampling with one coil, the phase that its centre shows, truncation.

k-space is kept in FFT order (zero frequency first), orthonormal, so that the Fourier transform is unitary and the
adjoint of sampling is the zero-filled inverse.
"""

import torch
from torch import Tensor

from medwvae.operators.base import Operator


class FourierSampling(Operator):
    """Samples of k-space under a mask: y = M F(x e^{iφ̂}), complex (B, 1, *spatial), zero where not sampled.

    Parameters
    ----------
    mask : Tensor
        Sampled positions, bool, broadcastable to k-space, in FFT order.
    channels : {1, 2}
        Of the images. For real ones (1) `project` is exact if the mask is symmetric under k → −k.
    phasor : Tensor, optional
        e^{iφ̂}, complex (B or 1, 1, *spatial): estimate of the image's smooth phase. Images are kept demodulated,
        x e^{−iφ̂}, so that they are nearly real and positive, as tissue is; k-space is that of the image with its phase.
    """

    coisometry = True
    exact = True

    def __init__(self, mask: Tensor, channels: int, phasor: Tensor | None = None, dims: int = 2) -> None:
        self.mask: Tensor = mask
        self.channels, self.phasor, self.dims = channels, phasor, dims

    def _forward(self, x: Tensor) -> Tensor:
        return _where(self.mask, to_kspace(x, self.phasor, self.dims))

    def _adjoint(self, y: Tensor) -> Tensor:
        return from_kspace(_where(self.mask, y), self.channels, self.phasor, self.dims)

    def _project(self, x: Tensor, y: Tensor, steps: int) -> Tensor:
        # The samples themselves take the place of the image's, without a rounding of their difference.
        kspace = torch.where(self.mask, y, to_kspace(x, self.phasor, self.dims))
        return from_kspace(kspace, self.channels, self.phasor, self.dims)

    def mirrored(self, axes: tuple[int, ...], y: Tensor) -> tuple[Operator, Tensor]:
        """See `Operator.mirrored`."""
        mask = mirrored_mask(self.mask, axes)
        phasor = None if self.phasor is None else self.phasor.flip(axes)
        return FourierSampling(mask, self.channels, phasor, self.dims), mirrored_kspace(y, mask, axes, self.dims)


def as_complex(image: Tensor) -> Tensor:
    """(B, 1 or 2, *spatial) real tensor to (B, 1, *spatial) complex."""
    if image.shape[1] == 1:
        return torch.complex(image, torch.zeros_like(image))
    return torch.complex(image[:, :1], image[:, 1:])


def magnitude(image: Tensor) -> Tensor:
    """(B, 1 or 2, *spatial) to (B, 1, *spatial): the modulus of a complex image; a real one as it is."""
    if image.shape[1] == 1:
        return image
    # Not torch.linalg.vector_norm: along so short an axis it takes up to a hundred times as long. Training needs the
    # modulus whose gradient is 0 at 0; elsewhere hypot is faster still.
    if torch.is_grad_enabled() and image.requires_grad:
        return as_complex(image).abs()
    return torch.hypot(image[:, :1], image[:, 1:])


def to_kspace(image: Tensor, phasor: Tensor | None = None, dims: int = 2) -> Tensor:
    """F: unitary Fourier transform of image × phasor, (B, 1 or 2, *spatial) to complex (B, 1, *spatial)."""
    full = as_complex(image)
    return fourier(full if phasor is None else full * phasor, dims)


def from_kspace(kspace: Tensor, channels: int, phasor: Tensor | None = None, dims: int = 2) -> Tensor:
    """F^H, demodulated: complex (B, 1, *spatial) to a real image (`channels` = 1, imaginary part dropped) or 2 ones."""
    image = inverse_fourier(kspace, dims)
    if phasor is not None:
        image = image * phasor.conj()
    return parts(image, channels)


def parts(image: Tensor, channels: int) -> Tensor:
    """Complex (B, 1, *spatial) to its real part (`channels` = 1) or to both parts as channels (2)."""
    return image.real if channels == 1 else torch.cat((image.real, image.imag), dim=1)


def fourier(image: Tensor, dims: int = 2) -> Tensor:
    """Unitary Fourier transform over the last `dims` axes."""
    kspace: Tensor = torch.fft.fftn(image, dim=tuple(range(-dims, 0)), norm="ortho")
    return kspace


def inverse_fourier(kspace: Tensor, dims: int = 2) -> Tensor:
    """Inverse, and adjoint, of `fourier`."""
    image: Tensor = torch.fft.ifftn(kspace, dim=tuple(range(-dims, 0)), norm="ortho")
    return image


def from_centred(kspace: Tensor, dims: int = 2) -> Tensor:
    """k-space with its zero frequency in the middle, as scanners' files hold it, to FFT order with a centred image.

    The usual centred transform, fftshift(ifftn(ifftshift(k))), and `inverse_fourier` of this result are the same image.
    """
    axes = tuple(range(-dims, 0))
    kspace = torch.fft.ifftshift(kspace, dim=axes)
    for axis in axes:
        size = kspace.shape[axis]
        # A shift of the image by size // 2 is a linear phase.
        turns = torch.arange(size, device=kspace.device, dtype=torch.float64) * (size // 2) / size
        shift = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns).to(kspace.dtype)
        kspace = kspace * shift.reshape(-1, *[1] * (-axis - 1))
    return kspace


def mirrored_mask(mask: Tensor, axes: tuple[int, ...]) -> Tensor:
    """K → −k of a mask in FFT order: reverse, then roll by one so that frequency zero stays in place."""
    return mask.flip(axes).roll((1,) * len(axes), axes)


def mirrored_kspace(kspace: Tensor, mask: Tensor, axes: tuple[int, ...], dims: int = 2) -> Tensor:
    """k-space of the image reversed along `axes`, zero outside the (mirrored) mask."""
    return _where(mask, fourier(inverse_fourier(kspace, dims).flip(axes), dims))


def low_frequency_phasor(kspace: Tensor, columns: int, rows: int | None = None, maps: Tensor | None = None) -> Tensor:
    """e^{iφ̂} of the low-pass image, complex (B, 1, H, W): a Hann window over the centre of k-space.

    As in homodyne reconstruction (Noll, Nishimura and Macovski, IEEE TMI 10, 1991).

    Parameters
    ----------
    columns : int
        Central columns that are sampled.
    rows : int, optional
        Central rows that are; all, if not given.
    maps : Tensor, optional
        Coil sensitivities (B or 1, coils, H, W), by which the coils are combined.
    """
    height, width = kspace.shape[-2:]
    half = max(columns // 2, 1)
    # Along fully sampled rows a window twice as wide: less ringing, the same smoothness.
    window = hann(height, 2 * half if rows is None else max(rows // 2, 1))[:, None] * hann(width, half)
    low_pass = inverse_fourier(kspace * window.to(kspace.device))
    if maps is not None:
        low_pass = (low_pass * maps.conj()).sum(1, keepdim=True)
    return torch.polar(torch.ones_like(low_pass.real), low_pass.angle())


def hann(size: int, half: int) -> Tensor:
    """Hann window that ends `half` frequencies from zero, (size,) in FFT order."""
    frequency = torch.fft.fftfreq(size, 1 / size).abs() / half
    return torch.where(frequency < 1, 0.5 + 0.5 * torch.cos(torch.pi * frequency), torch.zeros(()))


def truncation_mask(shape: tuple[int, ...], factor: int) -> Tensor:
    """Central block of k-space that an acquisition at 1/`factor` of the resolution covers: (1, 1, *shape) bool.

    Protocol `ixi-td`. Symmetric under k → −k (an unpaired Nyquist line is left out), so real images stay real.
    """
    mask = torch.ones(shape, dtype=torch.bool)
    for axis, size in enumerate(shape):
        low = -(-size // factor)
        keep = torch.fft.fftfreq(size, 1 / size).abs() < low / 2
        mask &= keep.reshape(-1, *[1] * (len(shape) - axis - 1))
    return mask[None, None]


def _where(mask: Tensor, kspace: Tensor) -> Tensor:
    return torch.where(mask, kspace, torch.zeros((), dtype=kspace.dtype, device=kspace.device))
