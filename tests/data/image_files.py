"""Files as CIFAR-10, MNIST and folders of photographs have them, made byte by byte."""

import gzip
import struct
import tarfile

import numpy as np
from PIL import Image


def python2_pickle(batch):
    """Return a dictionary as Python 2 pickled the batches of CIFAR-10 (protocol 2): its strings are byte strings."""

    def value(x):
        if isinstance(x, bytes):
            return (b"U" + bytes([len(x)]) if len(x) < 256 else b"T" + struct.pack("<i", len(x))) + x
        if isinstance(x, bool):
            return b"\x88" if x else b"\x89"
        if isinstance(x, int):
            return b"J" + struct.pack("<i", x)
        if isinstance(x, list):
            return b"](" + b"".join(map(value, x)) + b"e"
        if isinstance(x, tuple):
            return b"(" + b"".join(map(value, x)) + b"t"
        if isinstance(x, dict):
            return b"}(" + b"".join(value(k) + value(v) for k, v in x.items()) + b"u"
        assert x.dtype == np.uint8
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + value((0,)) + value(b"b") + b"tR"
        dtype = b"cnumpy\ndtype\n" + value((b"u1", 0, 1)) + b"R("
        dtype += b"".join(map(value, (3, b"|"))) + b"NNN" + b"".join(map(value, (-1, -1, 0))) + b"tb"
        return made + b"(" + value(1) + value(x.shape) + dtype + value(False) + value(x.tobytes()) + b"tb"

    return b"\x80\x02" + value(batch) + b"."


def cifar_batch(count, seed):
    rng = np.random.default_rng(seed)
    return {
        b"batch_label": b"training batch",
        b"labels": [int(n) for n in rng.integers(0, 10, count)],
        b"data": rng.integers(0, 256, (count, 3072), np.uint8),
        b"filenames": [f"photo_{seed}_{n}.png".encode() for n in range(count)],
    }


def cifar_folder(folder, count=6):
    """Write six batches below `folder`; return them by name."""
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    batches = {name: cifar_batch(count, seed) for seed, name in enumerate(names)}
    where = folder / "cifar-10-batches-py"
    where.mkdir(parents=True)
    for name, batch in batches.items():
        (where / name).write_bytes(python2_pickle(batch))
    return batches


def cifar_archive(folder, path):
    """Pack a folder of batches as it is distributed."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    return path


def idx(array):
    """Return an array of bytes as an idx file."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_folder(folder, count=20, shape=(28, 28), zipped=False, mark="-"):
    """Write the four files; return images and labels by part."""
    rng = np.random.default_rng(count)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (count, *shape), np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        for array, kind in ((images, "images"), (labels, "labels")):
            name = f"{part}-{kind}{mark}idx{array.ndim}-ubyte"
            content = idx(array)
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
        parts[part] = (images, labels)
    return parts


def photograph(height=24, width=20, channels=3, seed=0):
    """Return a smooth image (H, W, 3) or (H, W), uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [128 + 100 * np.sin(rng.uniform(1, 5) * y + rng.uniform(1, 5) * x + rng.uniform(0, 6)) for _ in range(3)]
    image = np.stack(waves, -1).round().astype(np.uint8)
    return image if channels == 3 else image[..., 0]


def photo_folder(folder, count=30, suffixes=(".png",), **options):
    """Write photographs; return them by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = {}
    for n in range(count):
        name = f"{n:05d}{suffixes[n % len(suffixes)]}"
        photos[name] = photograph(seed=n, **options)
        Image.fromarray(photos[name]).save(folder / name)
    return photos
