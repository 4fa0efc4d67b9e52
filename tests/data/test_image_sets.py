import gzip
import io
import os
import pickle
import pickletools
import struct
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from medwvae.config_generative import CelebAHQConfig, CIFAR10Config
from medwvae.data.image_sets import ImageSampler, ImageSet, ImageValidation, folder, mnist, read_image_set
from medwvae.data.image_sets.images import held_out
from medwvae.data.image_sets.plain_pickle import read_pickle
from medwvae.data.image_sets.scaling import square
from medwvae.errors import InputError
from medwvae.names import PARTS
from medwvae.nets.restorer import Estimate
from tests.data.image_files import (
    cifar_archive,
    cifar_batch,
    cifar_folder,
    idx,
    mnist_folder,
    photo_folder,
    photograph,
    python2_pickle,
)

CPU = torch.device("cpu")
in_place = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def rows_of(images):
    return {image.tobytes() for image in images}


def read(kind, path, part="train", **options):
    return read_image_set(kind, path, part, cache=path.parent / "cache", **options)


# --- pickles ---------------------------------------------------------------------------------------------------------


def test_the_made_pickle_is_what_python_and_numpy_read():
    batch = cifar_batch(3, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2.4.0 to 2.4.4 warn of `align=0`, as the real files have it
        theirs = pickle.loads(python2_pickle(batch), encoding="bytes")
    ours = read_pickle(python2_pickle(batch), "batch")
    assert {key.decode() for key in theirs} == ours.keys()
    for key, value in theirs.items():
        assert np.array_equal(ours[key.decode()], value)
    assert isinstance(ours["labels"], list)
    assert ours["data"].dtype == np.uint8


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)), st.booleans(), st.integers(2, 4))
def test_every_writer_of_arrays_is_understood(array, fortran, protocol):
    array = np.asfortranarray(array) if fortran else array
    batch = {b"data": array, "labels": [1, 2], b"more": b"\xff\x00"}
    found = read_pickle(pickle.dumps(batch, protocol), "batch")
    assert np.array_equal(found["data"], array)
    assert found["data"].shape == array.shape
    assert (found["labels"], found["more"]) == ([1, 2], b"\xff\x00")


class Gadget:
    """Unpickles by calling a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(tmp_path):
    """Pickles that would leave a file, or change a class, if they were obeyed."""
    mark = tmp_path / "was_here"
    command = f"touch {mark}"
    by_hand = b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."
    batch = {b"data": cifar_batch(1, 0)[b"data"], b"labels": Gadget(os.system, command)}
    stand_in = b"cnumpy\nndarray\n"
    return mark, {
        "system": pickle.dumps(Gadget(os.system, command), 2),
        "protocol 0": by_hand,
        "inside a batch": pickle.dumps(batch, 2),
        "stack global": pickle.dumps(Gadget(os.system, command), 4),
        "eval": pickle.dumps(Gadget(eval, f"open({str(mark)!r}, 'w')"), 2),
        "getattr": pickle.dumps(Gadget(getattr, "", "join"), 2),
        "other numpy": b"\x80\x02cnumpy\nload\n(S'x'\ntR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "instance": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "extension": b"\x82\x01.",
        "persistent": b"Pname\n.",
        "attributes of a stand-in": stand_in + b"(}S'x'\nK\x01stb.",
        "attributes of its instance": stand_in + b")R}S'__class__'\nK\x01sb.",
    }


@pytest.mark.parametrize("which", sorted(hostile(tmp_path=Path("x"))[1]))
def test_a_hostile_pickle_is_refused_and_never_obeyed(tmp_path, which):
    mark, pickles = hostile(tmp_path)
    with pytest.raises(InputError, match=r"batch: damaged, or no pickle of plain arrays \(.*download it again"):
        read_pickle(pickles[which], "batch")
    assert not mark.exists()
    batch = cifar_batch(2, 0)
    assert np.array_equal(read_pickle(python2_pickle(batch), "batch")["data"], batch[b"data"])  # nothing was changed


def test_what_a_refused_pickle_asked_for_is_said():
    with pytest.raises(InputError, match=r"it asks for (posix|nt|os)\.system"):
        read_pickle(pickle.dumps(Gadget(os.system, "true")), "batch")
    with pytest.raises(InputError, match="'f8', not of bytes"):
        read_pickle(pickle.dumps({"data": np.zeros(3)}, 2), "batch")
    with pytest.raises(InputError, match="no dictionary"):
        read_pickle(pickle.dumps([1, 2]), "batch")


@given(st.data())
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(data):
    whole = python2_pickle(cifar_batch(1, 0) | {b"data": np.arange(12, dtype=np.uint8).reshape(2, 6)})
    cut = data.draw(st.integers(0, len(whole)))
    place, byte = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    for content in (whole[:cut], whole[:place] + bytes([byte]) + whole[place + 1 :]):
        try:
            assert isinstance(read_pickle(content, "batch"), dict)
        except InputError as error:
            assert str(error).startswith("batch: ")


def test_a_damaged_memo_index_does_not_take_gigabytes():
    content = b"\x80\x02}r" + struct.pack("<I", 2**32 - 2) + b"."
    assert [op.name for op, _, _ in pickletools.genops(content)][2] == "LONG_BINPUT"
    assert read_pickle(content, "batch") == {}


# --- CIFAR-10 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["folder", "parent", "archive", "folder of the archive"])
def test_cifar10_comes_from_folder_or_archive(tmp_path, how):
    batches = cifar_folder(tmp_path / "sets")
    path = tmp_path / "sets"
    if how == "folder":
        path /= "cifar-10-batches-py"
    elif how == "archive":
        path = cifar_archive(path, tmp_path / "any.tar.gz")
    elif how == "folder of the archive":
        path = cifar_archive(path, tmp_path / "cifar-10-python.tar.gz").parent
    found = {part: read("cifar10", path, part, validation=0.2) for part in PARTS}
    assert [len(found[part]) for part in PARTS] == [24, 6, 6]
    test = batches["test_batch"]
    assert np.array_equal(found["test"].images.reshape(6, 3072), test[b"data"])
    assert found["test"].labels.tolist() == test[b"labels"]
    assert found["test"].classes[6] == "frog"
    source = {
        row.tobytes(): label
        for batch in batches.values()
        for row, label in zip(batch[b"data"], batch[b"labels"], strict=True)
    }
    for part in PARTS:  # every image has kept its label
        assert found[part].part == part
        for image, label in zip(found[part].images, found[part].labels, strict=True):
            assert source[image.tobytes()] == label
    seen = [rows_of(found[part].images) for part in PARTS]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 36


def test_red_comes_first_then_green_then_blue(tmp_path):
    batches = cifar_folder(tmp_path)
    row = batches["test_batch"][b"data"][0]
    image = read("cifar10", tmp_path, "test").images[0]
    assert image[1, 2, 3] == row[1024 + 2 * 32 + 3]


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, r"shape \(2, 3071\), not \(N, 3072\)"),
        ({b"data": np.zeros((0, 3072), np.uint8), b"labels": []}, r"shape \(0, 3072\)"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "2 images but 1 labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, "labels other than 0 to 9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 99]}, "no batch of CIFAR-10"),
        ({b"data": b"text", b"labels": [0, 1]}, "no batch of CIFAR-10"),
    ],
)
def test_a_batch_of_something_else_is_refused_by_name(tmp_path, batch, words):
    cifar_folder(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(python2_pickle(batch))
    with pytest.raises(InputError, match=rf"data_batch_3: .*{words}"):
        read("cifar10", tmp_path)


def test_missing_and_damaged_files_of_cifar10(tmp_path):
    cifar_folder(tmp_path / "sets")
    archive = cifar_archive(tmp_path / "sets", tmp_path / "whole.tar.gz")
    (tmp_path / "sets" / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(InputError, match=r"no CIFAR-10 here; expected .* data_batch_2.*cs\.toronto\.edu"):
        read("cifar10", tmp_path / "sets")
    lacking = cifar_archive(tmp_path / "sets", tmp_path / "lacking.tar.gz")
    with pytest.raises(InputError, match=r"lacking\.tar\.gz: lacks data_batch_2"):
        read("cifar10", lacking)
    assert len(read("cifar10", lacking, "test")) == 6
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(archive.read_bytes()[:-5000])
    text = tmp_path / "text.tar.gz"
    text.write_text("no archive")
    for path in (cut, text):
        with pytest.raises(InputError, match=rf"{path.name}: damaged, or no archive .*again"):
            read("cifar10", path, "test")
    with pytest.raises(
        InputError, match=r"no such file or folder; it should hold cifar10 \(set generative\.data\.path"
    ):
        read("cifar10", tmp_path / "absent")


def test_an_archive_writes_nothing_to_the_disk(tmp_path):
    path = tmp_path / "tricky.tar.gz"
    names = ["../outside", "/absolute", *(f"cifar-10-batches-py/data_batch_{n}" for n in range(1, 6))]
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            content = python2_pickle(cifar_batch(2, len(name)))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert len(read("cifar10", path)) == 9
    assert [file.name for file in tmp_path.iterdir()] == ["tricky.tar.gz"]


# --- MNIST -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_comes_plain_or_zipped(tmp_path, zipped, mark):
    parts = mnist_folder(tmp_path / "mnist", zipped=zipped, mark=mark)
    test = read("mnist", tmp_path / "mnist", "test")
    assert np.array_equal(test.images[:, 0], parts["t10k"][0])
    assert test.labels.tolist() == parts["t10k"][1].tolist()
    assert test.classes == tuple("0123456789")
    train, val = (read("mnist", tmp_path / "mnist", part, validation=0.25) for part in ("train", "val"))
    assert (len(train), len(val)) == (15, 5)
    assert rows_of(train.images) | rows_of(val.images) == rows_of(parts["train"][0])


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9)), st.booleans())
@in_place
def test_an_idx_file_reads_back(tmp_path, array, zipped):
    file = tmp_path / "idx"  # the content tells whether it is zipped, not the name
    file.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    assert np.array_equal(mnist.read_idx(file, array.ndim), array)


@given(st.data(), st.booleans())
@in_place
def test_a_cut_idx_file_is_refused_wherever_it_ends(tmp_path, data, zipped):
    content = idx(np.arange(60, dtype=np.uint8).reshape(5, 4, 3))
    content = gzip.compress(content) if zipped else content
    file = tmp_path / "cut-images"
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match=r"cut-images: .*download it again"):
        mnist.read_idx(file, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx(np.zeros((2, 3, 3), np.uint8)) + b"x", "holds more"),
        (idx(np.zeros(4, np.uint8)), "begins with 00000801, not 00000803"),
        (b"\x00\x00\x0d\x03" + bytes(20), "begins with 00000d03"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "begins with 89504e47"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2**31), "says that its array is 2147483648 x"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 0, 28, 28), "says that its array is 0 x 28 x 28"),
        (b"", "begins with"),
    ],
)
def test_what_is_no_idx_file_of_images_is_refused(tmp_path, content, words):
    file = tmp_path / "images"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"images: .*{words}"):
        mnist.read_idx(file, 3)


def test_files_of_mnist_that_do_not_fit(tmp_path):
    mnist_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    with pytest.raises(InputError, match="has 20 images but t10k-labels-idx1-ubyte 19 labels"):
        read("mnist", tmp_path, "test")
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 10, np.uint8)))
    with pytest.raises(InputError, match="the label 10, larger than 9"):
        read("mnist", tmp_path, "test")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"no t10k-labels-idx1-ubyte here, with or without \.gz"):
        read("mnist", tmp_path, "test")


# --- folders of photographs ------------------------------------------------------------------------------------------


def test_a_folder_is_read_as_it_is_without_a_size(tmp_path):
    photos = photo_folder(tmp_path / "photos")
    found = {part: read("celeba_hq", tmp_path / "photos", part, validation=0.2, test=0.2) for part in PARTS}
    seen = [rows_of(found[part].images) for part in PARTS]
    assert set.union(*seen) == {np.moveaxis(photo, 2, 0).tobytes() for photo in photos.values()}
    assert sum(map(len, seen)) == len(photos)
    assert all(f.labels is None and f.classes == () and f.images.shape[1:] == (3, 24, 20) for f in found.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_formats_mix_and_folders_nest(tmp_path, channels):
    photos = photo_folder(tmp_path / "photos", 6, (".png", ".jpg", ".webp"), channels=channels)
    if channels == 1:  # WebP has no grey
        for name in list(photos):
            if name.endswith(".webp"):
                (tmp_path / "photos" / name).unlink()
    photo_folder(tmp_path / "photos" / "more", 2, (".PNG", ".jpeg"), channels=channels)
    (tmp_path / "photos" / "._00000.png").write_bytes(b"what macOS leaves")
    (tmp_path / "photos" / "list.txt").write_text("no image")
    files = folder.sources(tmp_path / "photos")
    assert len(files) == (8 if channels == 3 else 6)
    images = list(folder.read(files, (channels, 16, 16), 16))
    assert all(image.shape == (channels, 16, 16) and image.dtype == np.uint8 for image in images)
    for file, image in zip(files, images, strict=True):
        assert np.abs(square(folder.load(file), 16).astype(int) - image).max() == 0


def test_lossy_formats_come_close(tmp_path):
    image = photograph(48, 48)
    for name in ("a.jpg", "a.webp", "a.png"):
        Image.fromarray(image).save(tmp_path / name)
        error = np.abs(np.moveaxis(folder.load(tmp_path / name), 0, 2).astype(int) - image)
        assert error.mean() < (6 if name != "a.png" else 1e-9)


def test_photographs_stand_upright(tmp_path):
    image = photograph(10, 14)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(folder.load(tmp_path / "turned.png"), np.moveaxis(np.rot90(image, -1), 2, 0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: Image.fromarray(photograph(channels=1)).save(path), "is grey but the first image colour"),
        (lambda path: Image.fromarray(photograph(24, 21)).save(path), "is 21 x 24 pixels but the first image 20 x 24"),
        (lambda path: Image.new("RGBA", (20, 24)).save(path), "its mode is RGBA; convert it"),
        (lambda path: Image.new("P", (20, 24)).save(path), "its mode is P"),
        (lambda path: Image.new("I;16", (20, 24)).save(path), "its mode is I;16"),
        (lambda path: path.write_text("no image"), "damaged, or no image"),
        (lambda path: path.write_bytes(b""), "damaged, or no image"),
    ],
)
def test_an_image_that_does_not_belong_is_refused_by_name(tmp_path, make, words):
    photo_folder(tmp_path / "photos", 3)
    make(tmp_path / "photos" / "zz.png")
    with pytest.raises(InputError, match=f"zz.png: .*{words}"):
        read("celeba_hq", tmp_path / "photos", validation=1e-9, test=1e-9)
    assert not list((tmp_path / "cache").iterdir())  # nothing half written stays


@given(st.sampled_from([".png", ".jpg", ".webp"]), st.data())
@in_place
def test_a_cut_image_is_read_or_refused_and_nothing_else(tmp_path, suffix, data):
    whole = io.BytesIO()
    Image.fromarray(photograph()).save(whole, {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[suffix])
    content = whole.getvalue()
    file = tmp_path / f"cut{suffix}"
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        assert folder.load(file).shape == (3, 24, 20)  # the last bytes of a file may say nothing about its pixels
    except InputError as error:
        assert str(error).startswith(f"{file}: ")


def test_an_image_of_absurd_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(photograph(12, 12)).save(tmp_path / "a.png")
    Image.fromarray(photograph(24, 24)).save(tmp_path / "b.png")
    for name in "ab":
        with pytest.raises(InputError, match="too many pixels"):
            folder.load(tmp_path / f"{name}.png")


def test_an_empty_folder_and_an_empty_part(tmp_path):
    with pytest.raises(InputError, match="no image here"):
        read("celeba_hq", tmp_path)
    photo_folder(tmp_path / "photos", 1)
    with pytest.raises(InputError, match="none of its 1 images falls into the test part; add images"):
        read("celeba_hq", tmp_path / "photos", "test", test=1e-9)


# --- parts -----------------------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_the_seed_decides_the_validation_part(count, fraction, seed):
    mask = held_out(count, fraction, seed)
    assert np.array_equal(mask, held_out(count, fraction, seed))
    assert 1 <= mask.sum() < count
    assert abs(mask.sum() - count * fraction) <= 1


def test_the_splits_have_not_moved():
    # Pinned: another Python, NumPy or machine must not deal other parts.
    assert np.flatnonzero(held_out(20, 0.2, 1)).tolist() == [0, 4, 11, 16]
    parts = [folder.part_of(f"{n:05d}", validation=0.2, test=0.2, seed=1) for n in range(12)]
    assert "".join(part[:2] for part in parts) == "trtrvatetrtetrtrvavatrtr"


def test_another_seed_deals_other_parts(tmp_path):
    mnist_folder(tmp_path / "mnist")
    one, same, other = (read("mnist", tmp_path / "mnist", "val", validation=0.3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.images, same.images)
    assert rows_of(one.images) != rows_of(other.images)


@given(st.sets(st.text("abc012/", min_size=1), min_size=1), st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_a_photograph_keeps_its_part_whatever_else_comes(names, validation, test):
    for name in names:
        assert folder.part_of(name, validation=validation, test=test, seed=3) in PARTS
    dealt = [folder.part_of(f"{n}", validation=validation, test=test, seed=3) for n in range(500)]
    assert abs(dealt.count("val") / 500 - validation) < 0.1
    assert abs(dealt.count("test") / 500 - test) < 0.1


def test_a_photograph_in_two_formats_is_in_one_part(tmp_path):
    for n in range(20):
        for suffix in (".png", ".jpg"):
            Image.fromarray(photograph(8, 8, seed=n)).save(tmp_path / f"{n}{suffix}")
    files = folder.sources(tmp_path)
    stems = [
        {file.stem for file in folder.chosen(tmp_path, files, part, validation=0.3, test=0.3, seed=1)} for part in PARTS
    ]
    assert sum(map(len, stems)) == len(set.union(*stems)) == 20


# --- scaling and its cache -------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(1, 50), st.integers(0, 255))
def test_a_flat_image_stays_flat_at_every_size(height, width, channels, size, value):
    scaled = square(np.full((channels, height, width), value, np.uint8), size)
    assert scaled.shape == (channels, size, size)
    assert scaled.dtype == np.uint8
    assert (scaled == value).all()


@given(hnp.arrays(np.uint8, st.tuples(st.just(3), st.integers(1, 12), st.integers(1, 12))))
def test_the_own_size_is_a_crop_about_the_centre(image):
    side = min(image.shape[1:])
    top, left = ((n - side) // 2 for n in image.shape[1:])
    assert np.array_equal(square(image, side), image[:, top : top + side, left : left + side])


def test_reducing_does_not_alias():
    stripes = np.zeros((1, 64, 64), np.uint8)
    stripes[:, :, ::2] = 255  # far above what 16 pixels can hold: their mean is all that may stay
    inside = square(stripes, 16)[:, 3:-3, 3:-3]  # clear of the border, beyond which there is nothing to average
    assert np.abs(inside.astype(int) - 127.5).max() < 1


def test_enlarging_is_bicubic():
    image = np.moveaxis(photograph(32, 32), 2, 0)
    large = square(image, 128)
    assert np.array_equal(large[1], np.asarray(Image.fromarray(image[1]).resize((128, 128), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("kind", ["cifar10", "mnist", "celeba_hq"])
def test_scaled_images_are_mapped_and_used_again(tmp_path, kind):
    path = tmp_path / "set"
    {"cifar10": cifar_folder, "mnist": mnist_folder, "celeba_hq": photo_folder}[kind](path)
    seen: list[float] = []
    one = read(kind, path, size=40, report=seen.append)
    assert isinstance(one.images, np.memmap)
    assert not one.images.flags.writeable
    assert seen[-1] == 1
    assert len(seen) == len(one)
    native = read(kind, path)
    for large, image in zip(one.images, native.images, strict=True):
        assert np.array_equal(large, square(image, 40))
    if one.labels is not None:
        assert np.array_equal(one.labels, native.labels)
    again = read(kind, path, size=40, report=seen.append)
    assert len(seen) == len(one)  # nothing was written
    assert np.array_equal(again.images, one.images)
    other = read(kind, path, size=41)
    assert other.images.shape[2:] == (41, 41)
    assert not list((tmp_path / "cache").glob(".*"))


def test_the_native_size_needs_no_cache(tmp_path):
    cifar_folder(tmp_path / "set")
    images = read("cifar10", tmp_path / "set", size=32).images
    assert not isinstance(images, np.memmap)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("change", ["edit", "remove", "seed"])
def test_a_change_makes_the_cache_anew(tmp_path, change):
    path = tmp_path / "photos"
    photo_folder(path)
    before = read("celeba_hq", path, size=8)
    rows = rows_of(before.images)
    assert len(rows) == len(before)
    if change != "seed":
        mine = folder.chosen(path, folder.sources(path), "train", validation=0.1, test=0.1, seed=1)[3]
        mine.unlink()
        if change == "edit":
            Image.fromarray(photograph(seed=99)).save(mine)
    after = read("celeba_hq", path, size=8, seed=2 if change == "seed" else 1)
    assert len(after) == len(before) - (change == "remove") or change == "seed"
    assert rows_of(after.images) != rows
    assert rows_of(before.images) == rows  # whoever maps the old file keeps it


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "shape"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    photo_folder(tmp_path / "photos")
    expected = np.array(read("celeba_hq", tmp_path / "photos", size=8).images)
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    if damage == "shape":
        with file.open("wb") as handle:
            np.save(handle, np.zeros((2, 3, 8, 8), np.uint8))
    else:
        file.write_bytes({"cut": content[:-10], "empty": b"", "text": b"no array"}[damage])
    assert np.array_equal(read("celeba_hq", tmp_path / "photos", size=8).images, expected)


def test_an_interrupted_cache_is_not_there(tmp_path):
    photo_folder(tmp_path / "photos")

    def interrupt(fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read("celeba_hq", tmp_path / "photos", size=8, report=interrupt)
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written_is_an_input_error(tmp_path):
    photo_folder(tmp_path / "photos")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        read_image_set("celeba_hq", tmp_path / "photos", "train", cache=tmp_path / "file", size=8)


# --- draws -----------------------------------------------------------------------------------------------------------


def image_set(count=7, shape=(3, 12, 10), labelled=True):
    """Return a set whose images say which they are, and where."""
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    images[:, 0, :, :] = np.arange(count)[:, None, None]
    labels = np.arange(count) % 3 if labelled else None
    return ImageSet(images, labels, ("a", "b", "c") if labelled else (), "train")


@given(st.integers(1, 9), st.booleans(), st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_the_generator_decides_the_draw(batch, mirror, multiple, labelled, seed):
    data = image_set(labelled=labelled)
    sampler = ImageSampler(data, mirror=mirror, multiple=multiple)
    one, two = (sampler.draw(batch, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.maxima, torch.ones(batch))
    height, width = (n - n % multiple for n in (12, 10))
    assert one.images.shape == (batch, 3, height, width)
    assert one.images.dtype == torch.float32
    top, left = 12 % multiple // 2, 10 % multiple // 2
    for k, image in enumerate((one.images * 255).round().byte().numpy()):
        which = int(image[0, 0, 0])
        expected = data.images[which][:, top : top + height, left : left + width]
        straight = np.array_equal(image, expected)
        assert straight or (mirror and np.array_equal(image, expected[:, :, ::-1]))
        if labelled:
            assert one.labels is not None
            assert int(one.labels[k]) == which % 3
    if not labelled:
        assert one.labels is None
    else:
        assert one.labels is not None
        assert one.labels.dtype == torch.int64


def test_every_image_is_drawn_and_half_of_them_mirrored():
    data = image_set()
    images = ImageSampler(data, mirror=True).draw(400, torch.Generator().manual_seed(0)).images
    drawn = (images * 255).round().byte().numpy()
    which = drawn[:, 0, 0, 0]
    assert set(which.tolist()) == set(range(7))
    mirrored = [not np.array_equal(image, data.images[n]) for image, n in zip(drawn, which, strict=True)]
    assert 150 < sum(mirrored) < 250


def test_values_are_between_0_and_1():
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    drawn = ImageSampler(ImageSet(images, None, (), "train")).draw(50, torch.Generator().manual_seed(0)).images
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}


def test_images_smaller_than_the_multiple_are_refused():
    with pytest.raises(InputError, match="12 x 10 pixels cannot be cropped to a multiple of 16; scale them"):
        ImageSampler(image_set(), multiple=16).draw(1, torch.Generator())


def test_a_mapped_set_is_drawn_from(tmp_path):
    photo_folder(tmp_path / "photos")
    data = read("celeba_hq", tmp_path / "photos", size=8)
    drawn = ImageSampler(data, mirror=True).draw(5, torch.Generator().manual_seed(0))
    assert drawn.images.shape == (5, 3, 8, 8)


# --- validation ------------------------------------------------------------------------------------------------------


def test_validation_is_the_mean_psnr_over_images():
    data = image_set(count=100)  # more than one forward pass
    offsets = torch.linspace(0.01, 0.2, 100)[:, None, None, None]
    validation = ImageValidation(data, 100, seed=1)
    given = iter(offsets.split(64))

    def model(measurement):
        assert measurement.label is not None
        assert torch.equal(measurement.label, (measurement.start[:, 0, 0, 0] * 255).round().long() % 3)
        return Estimate(measurement.start + next(given), torch.zeros(()))

    assert validation(model, CPU) == pytest.approx(float((-20 * torch.log10(offsets)).mean()), abs=1e-3)


def test_validation_images_are_fixed_by_the_seed_and_a_perfect_answer_is_finite():
    data = image_set(count=30, labelled=False)
    one, two, other = (ImageValidation(data, 8, seed, multiple=4) for seed in (1, 1, 2))
    assert torch.equal(one.measurement.start, two.measurement.start)
    assert not torch.equal(one.measurement.start, other.measurement.start)
    assert one.measurement.start.shape == (8, 3, 12, 8)
    assert len(ImageValidation(data, 99, 1).measurement.start) == 30
    assert one(lambda m: Estimate(m.start, torch.zeros(())), CPU) == pytest.approx(100)


# --- configuration ---------------------------------------------------------------------------------------------------


def test_sections_of_image_sets():
    assert CIFAR10Config.model_validate({"kind": "cifar10", "path": "here", "size": 128}).size == 128
    with pytest.raises(ValueError, match="leaves no image to train on"):
        CelebAHQConfig.model_validate({"kind": "celeba_hq", "path": "here", "validation": 0.5, "test": 0.5})
    with pytest.raises(ValueError, match="path"):
        CIFAR10Config.model_validate({"kind": "cifar10"})
