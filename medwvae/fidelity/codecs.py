"""What lossless codecs need for the same images: bits per voxel, the yardstick of a model's evidence bound.

JPEG 2000 (5/3 wavelet; OpenJPEG in Pillow), JPEG-LS (CharLS in pyjpegls) and PNG (zlib level 9, Pillow). All bytes of a
stream count, headers too: a JPEG 2000 code stream without the boxes of a .jp2 file, a JPEG-LS interchange stream, a PNG
file. An empty 64 × 64 image takes 39 (JPEG-LS) to 146 bytes (JPEG 2000), 0.08 to 0.29 bits per voxel: `header_bytes`.
"""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Codec = Literal["jpeg2000", "jpegls", "png"]
CODECS: Final[tuple[Codec, ...]] = ("jpeg2000", "jpegls", "png")

Pixels = NDArray[np.unsignedinteger]

_LEAST: Final = 8


def quantise(images: NDArray[np.floating], step: float, lowest: float = 0.0) -> Pixels:
    """Round images to whole numbers of `step` above `lowest`: uint8 where 255 is enough, otherwise uint16.

    A codec's bits compare with a model's only at one step: `medwvae.nets.latent.bits_per_voxel` takes the same.

    Parameters
    ----------
    images : array, any shape
    step, lowest : float
        In the images' unit; values below `lowest` are refused, not cut off.

    Raises
    ------
    ValueError
        If the step is not positive or the values do not fit 16 bits.
    """
    if not step > 0:
        raise ValueError(f"the step must be positive, got {step}")
    whole = np.rint((np.asarray(images, np.float64) - lowest) / step)
    if not (whole.size and np.isfinite(whole).all() and whole.min() >= 0 and whole.max() <= 65535):
        raise ValueError(f"values do not fit 0 to 65535 steps of {step} from {lowest}")
    return whole.astype(np.uint8) if whole.max() <= 255 else whole.astype(np.uint16)


def encode(image: Pixels, codec: Codec) -> bytes:
    """Return one image (H, W), at least 8 × 8, as a lossless stream. JPEG-LS is told the bits of the image's maximum.

    Raises
    ------
    ValueError
        If the image is neither uint8 nor uint16, too small, or the codec is unknown.
    """
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or min(image.shape) < _LEAST:
        raise ValueError(f"need uint8 or uint16 of at least 8 x 8, got {image.dtype} {image.shape}")
    if codec not in _ENCODERS:
        raise ValueError(f"there is no codec {codec}, only {', '.join(CODECS)}")
    return _ENCODERS[codec](np.ascontiguousarray(image))


def decode(stream: bytes, codec: Codec) -> Pixels:
    """Return the image that `encode` was given, in its values; 8 bits where they are enough for the codec's stream."""
    if codec == "jpegls":
        import jpeg_ls

        data, header = jpeg_ls.decode_buffer(stream)
        size = (header["height"], header["width"])
        if header["bits_per_sample"] <= 8:
            return np.frombuffer(data, np.uint8).reshape(size)
        return np.frombuffer(data, "<u2").astype(np.uint16).reshape(size)
    from PIL import Image

    with Image.open(BytesIO(stream)) as image:
        return np.asarray(image)


def codec_bits(images: Pixels, codec: Codec) -> float:
    """Mean bits of lossless coding per voxel, slice by slice: 8 · all bytes / all voxels.

    Parameters
    ----------
    images : array of uint8 or uint16, (..., H, W)
        Channels, slices and volumes are coded one (H, W) at a time: what is alike between them is not used.

    Raises
    ------
    ValueError
        As for `encode`, or if there is no image.
    """
    if images.ndim < 2 or not images.size:
        raise ValueError(f"need images (..., H, W), got shape {images.shape}")
    total = sum(len(encode(image, codec)) for image in images.reshape(-1, *images.shape[-2:]))
    return 8 * total / images.size


def bits_by_codec(images: Pixels) -> Mapping[Codec, float]:
    """Return `codec_bits` of every codec."""
    return {codec: codec_bits(images, codec) for codec in CODECS}


def header_bytes(shape: tuple[int, int], dtype: type[np.uint8] | type[np.uint16], codec: Codec) -> int:
    """Bytes of the stream of an empty (zero) image: what of `codec_bits` is not content, at most."""
    return len(encode(np.zeros(shape, dtype), codec))


def _jpeg2000(image: Pixels) -> bytes:
    from PIL import Image

    # A resolution more than the shorter axis has octaves is refused; six are usual.
    resolutions = min(6, min(image.shape).bit_length())
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=resolutions)
    return stream.getvalue()


def _jpegls(image: Pixels) -> bytes:
    import jpeg_ls

    bits = max(2, int(image.max()).bit_length())
    little = image.astype("u1" if bits <= 8 else "<u2").tobytes()
    return bytes(jpeg_ls.encode_buffer(little, *image.shape, 1, bits))


def _png(image: Pixels) -> bytes:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return stream.getvalue()


_ENCODERS: Final[Mapping[str, Callable[[Pixels], bytes]]] = {"jpeg2000": _jpeg2000, "jpegls": _jpegls, "png": _png}
