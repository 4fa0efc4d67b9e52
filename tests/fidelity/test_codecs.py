from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medwvae.fidelity.codecs import CODECS, bits_by_codec, codec_bits, decode, encode, header_bytes, quantise
from tests.fidelity.cases import blobs

images = st.one_of(
    *(
        arrays(dtype, st.tuples(st.integers(8, 40), st.integers(8, 40)), elements=st.integers(0, top))
        for dtype, top in ((np.uint8, 255), (np.uint16, 4095), (np.uint16, 65535))
    )
)


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=40, deadline=None)
@given(image=images)
def test_round_trip_is_exact(codec, image):
    np.testing.assert_array_equal(decode(encode(image, codec), codec), image)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("top", [0, 1, 2, 3, 255, 256, 65535])
def test_noise_and_constants_of_every_depth_survive(codec, top):
    dtype = np.uint8 if top <= 255 else np.uint16
    image: Any
    for image in (np.full((9, 33), top, dtype), np.random.default_rng(0).integers(0, top + 1, (33, 9)).astype(dtype)):
        np.testing.assert_array_equal(decode(encode(image, codec), codec), image)
        np.testing.assert_array_equal(decode(encode(image.T, codec), codec), image.T)


def test_others_decode_our_streams():
    openjpeg = pytest.importorskip("openjpeg")
    image = quantise(blobs(1, 48)[0, 0].numpy(), 1 / 4095)
    np.testing.assert_array_equal(openjpeg.decode(encode(image, "jpeg2000")), image)
    from openjpeg.utils import encode_array

    theirs = len(encode_array(image, bits_stored=12))
    assert len(encode(image, "jpeg2000")) == pytest.approx(theirs, rel=0.02)


def test_noise_needs_its_entropy_and_smooth_images_less():
    noise = np.random.default_rng(0).integers(0, 256, (2, 128, 128)).astype(np.uint8)
    smooth = quantise(blobs(2, 128)[:, 0].numpy(), 1 / 255)
    for codec, bits in bits_by_codec(noise).items():
        assert 8 <= bits < 9.5
        # no lossless code beats the entropy of uniform noise; smooth images have far less than eight bits
        assert codec_bits(smooth, codec) < 4


def test_bits_are_the_mean_over_slices_headers_included():
    images = quantise(blobs(4, 32)[:, 0].numpy(), 1 / 255)
    for codec in CODECS:
        each = [8 * len(encode(image, codec)) / 32**2 for image in images]
        assert codec_bits(images.reshape(2, 2, 32, 32), codec) == pytest.approx(np.mean(each))
        assert 20 < header_bytes((32, 32), np.uint8, codec) < 150


@given(step=st.floats(1e-3, 10), lowest=st.floats(-10, 10), whole=st.integers(0, 65535))
def test_quantisation_is_exact_on_the_grid(step, lowest, whole):
    found = quantise(np.array([lowest + step * whole, lowest]), step, lowest)
    assert found.tolist() == [whole, 0]
    assert found.dtype == (np.uint8 if whole <= 255 else np.uint16)


def test_what_cannot_be_coded_is_refused():
    image = np.zeros((16, 16), np.uint8)
    bad: Any
    for bad in (image.astype(float), image[0], image[:4], image.astype(np.int16)):
        with pytest.raises(ValueError, match="uint8 or uint16"):
            encode(bad, "png")
    with pytest.raises(ValueError, match="no codec"):
        encode(image, "gif")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step"):
        quantise(np.zeros(3), 0)
    for values in (np.array([-1.0]), np.array([np.nan]), np.array([70000.0]), np.zeros(0)):
        with pytest.raises(ValueError, match="65535"):
            quantise(values, 1.0)
    with pytest.raises(ValueError, match=r"\(\.\.\., H, W\)"):
        codec_bits(image[:0], "png")
