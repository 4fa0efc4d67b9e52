"""Streams of the JPEG family: GDCM gets the sane ones, in every form that is legal, and no other."""

import io
import itertools

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless

from medwvae.data import dicom
from medwvae.data.dicom import jpeg
from medwvae.errors import Refusal
from tests.data.jpeg import lossless, segment
from tests.data.series import image_of, write_series

SOF, DHT, SOS = b"\xff\xc3", b"\xff\xc4", b"\xff\xda"


def dataset_of(stream, shape, syntax=JPEGLosslessSV1, *, allocated=16, stored=None):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored = allocated, stored or allocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    return dataset


def baseline(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.mark.parametrize("precision", [2, 7, 8, 9, 12, 15, 16])
@pytest.mark.parametrize("form", [{}, {"restart": 3}, {"fill": 2}, {"fill": 1, "restart": 1}])
def test_lossless_streams_of_every_precision_decode_exactly(precision, form):
    image = np.random.default_rng(precision).integers(0, 1 << precision, (9, 7))
    for allocated, stored in {(16, precision), (16, 16), (8, 8)}:
        if precision <= allocated:
            one = dataset_of(lossless(image, precision, **form), image.shape, allocated=allocated, stored=stored)
            jpeg.check(one)
            assert np.array_equal(pixel_array(one, decoding_plugin="gdcm"), image)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_lossy_streams_of_eight_bits_are_read(syntax):
    image = np.add.outer(np.arange(20), np.arange(28)).astype(np.uint8)
    one = dataset_of(baseline(image), image.shape, syntax, allocated=8)
    jpeg.check(one)
    assert np.abs(pixel_array(one, decoding_plugin="gdcm").astype(int) - image).max() <= 4
    with pytest.raises(Refusal, match="12 bits"):
        jpeg.check(dataset_of(baseline(image), image.shape, JPEGExtended12Bit, allocated=16, stored=12))


def test_jpegls_of_fewer_bits_than_allocated_is_read(tmp_path):
    """GDCM widens them; the bytes of a sample need not be those of the header."""
    image = np.arange(240, dtype=np.uint8).reshape(3, 8, 10)
    write_series(tmp_path / "s", image)
    for path in (tmp_path / "s").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.save_as(path)
    (series,), _ = dicom.scan((tmp_path / "s").iterdir())
    (part,) = dicom.split(series)
    assert np.array_equal(np.sort(dicom.load(dicom.check(part)).voxels.ravel()), np.sort(image.ravel()))


def changed(stream, mark, offset, value):
    """Return a stream with one byte of a segment changed, `offset` bytes behind its marker."""
    at = stream.index(mark) + 2 + offset
    return stream[:at] + bytes([value]) + stream[at + 1 :]


def test_what_would_end_the_process_never_reaches_the_decoder():
    image = image_of(9, 7)
    good = lossless(image, 16)
    cut = segment(0xC4, bytes([0, 3, *[0] * 15, 1, 2, 3]))  # three codes of one bit
    bad = {
        "no start": good[2:],
        "no end": good[:-2],
        "cut": good[: len(good) // 2],
        "cut header": good[:12],
        "another process": changed(good, b"\xff\xd8", 1, 0xC0),
        "two frames": good[:2] + good[2:15] + good[2:],
        "depth 17": changed(good, SOF, 2, 17),
        "rows": changed(good, SOF, 4, 200),
        "columns": changed(good, SOF, 6, 8),
        "components": changed(good, SOF, 7, 3),
        "sampling": changed(good, SOF, 9, 0x51),
        "table class": changed(good, DHT, 2, 0x20),
        "table number": changed(good, DHT, 2, 0x04),
        "more codes than symbols": changed(good, DHT, 7, 30),
        "no codes": changed(good, DHT, 7, 0),
        "codes that do not fit": good[:15] + cut + good[15:],
        "category 17": changed(good, DHT, 19, 17),
        "component of the scan": changed(good, SOS, 3, 9),
        "table that is not there": changed(good, SOS, 4, 0x10),
        "predictor": changed(good, SOS, 5, 8),
        "no predictor": changed(good, SOS, 5, 0),
        "point transform": changed(good, SOS, 7, 16),
        "restart interval": good[:15] + segment(0xDD, b"\0") + good[15:],
        "no scan": good[: good.index(SOS)] + b"\xff\xd9",
        "hierarchical": good[:2] + segment(0xDE, good[4:13]) + good[2:],
    }
    jpeg.check(dataset_of(good, image.shape))
    for stream in bad.values():
        for syntax in (JPEGLossless, JPEGLosslessSV1):
            with pytest.raises(ValueError, match=r"damaged|no start|missing|another size"):
                jpeg.check(dataset_of(stream, image.shape, syntax))


def test_lossy_tables_are_looked_at():
    image = image_of(16, 16, top=256, dtype=np.uint8)
    good = baseline(image)
    tables = good.index(b"\xff\xdb")
    bad = {
        "no quantisation": good[:tables] + good[good.index(b"\xff\xc0") :],
        "a step of zero": changed(good, b"\xff\xdb", 20, 0),
        "table number": changed(good, b"\xff\xdb", 2, 4),
        "no Huffman": good[: good.index(DHT)] + good[good.index(SOS) :],
        "spectral selection": changed(good, SOS, 6, 64),
    }
    for stream in bad.values():
        with pytest.raises(ValueError, match=r"damaged|missing"):
            jpeg.check(dataset_of(stream, image.shape, JPEGBaseline8Bit, allocated=8))


@pytest.mark.parametrize(("allocated", "stored"), [(8, 7), (8, 2), (32, 16), (12, 12), (16, 17), (16, 0)])
def test_depths_that_gdcm_cannot_take_are_refused(allocated, stored):
    image = image_of(9, 7, top=4)
    dataset = dataset_of(lossless(image, 2), image.shape, allocated=allocated)
    dataset.BitsStored = stored
    with pytest.raises(ValueError, match="depth"):
        jpeg.check(dataset)


def test_a_stream_deeper_than_the_header_is_refused():
    """GDCM would silently keep eight of its bits."""
    image = image_of(9, 7)
    with pytest.raises(ValueError, match="another size"):
        jpeg.check(dataset_of(lossless(image, 12), image.shape, allocated=8))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_stream_is_refused_or_survived(data):
    """The check itself only ever raises its own error; what it lets pass, GDCM survives (or this process is gone)."""
    image = image_of(9, 7)
    stream = bytearray(lossless(image, 16, restart=4))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    dataset = dataset_of(bytes(stream), image.shape)
    try:
        jpeg.check(dataset)
        pixel_array(dataset, decoding_plugin="gdcm")
    except (ValueError, RuntimeError):
        pass


def test_a_lossless_series_is_read_and_a_damaged_one_refused(tmp_path):
    image = image_of(3, 8, 10)
    numbers = itertools.count()

    def coded(dataset, k):
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        stream = lossless(image[k], 16)
        dataset.PixelData = encapsulate([changed(stream, DHT, 2, 0x0F) if next(numbers) == 4 else stream])
        dataset["PixelData"].VR = "OB"

    write_series(tmp_path / "good", image, edit=coded)
    write_series(tmp_path / "bad", image, edit=coded, uids=("study", "other"))
    (good,), _ = dicom.scan((tmp_path / "good").iterdir())
    (bad,), _ = dicom.scan((tmp_path / "bad").iterdir())
    assert dicom.load(dicom.check(dicom.split(good)[0])).voxels.max() == image.max()
    with pytest.raises(Refusal, match="slice 2 of 3 cannot be decoded"):
        dicom.load(dicom.check(dicom.split(bad)[0]))
