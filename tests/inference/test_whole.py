"""Laws of whole-volume inference: identity to the bit, tiles equal to the whole, memory kept, no seams."""

import math
import resource
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medwvae.errors import MedwvaeError
from medwvae.inference import memory, whole
from medwvae.inference.footprint import Footprint, measure
from medwvae.inference.whole import bytes_per_voxel, from_array, infer, is_out_of_memory
from medwvae.nets.unet import UNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement
from medwvae.precision import exact_float32
from tests.cases import encoder_of

PER_VOXEL = whole.SAFETY * 8


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def with_voxels(monkeypatch):
    """Return a function that sets how many voxels a tile may have."""

    def limit(voxels):
        monkeypatch.setattr(memory, "room", lambda device, ceiling=None: int(voxels))
        monkeypatch.setattr(whole, "bytes_per_voxel", lambda *_: 1.0)

    return limit


def volume(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def net(dims, levels=2, seed=0, heads=0.05):
    """Return a Wavelet-VAE whose corrections are not nought."""
    torch.manual_seed(seed)
    model = WaveletVAE(dims=dims, widths=(4,) * levels, blocks=1).eval()
    nn.init.normal_(encoder_of(model).head.weight, std=heads)
    return model


def restoring(model):
    def restore(x):
        with torch.no_grad():
            return model(Measurement(x)).image

    return restore


# --- identity --------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(1, 3).flatmap(
        lambda dims: st.tuples(
            st.tuples(*[st.integers(1, 30)] * dims),
            st.tuples(*[st.sampled_from((1, 2, 4, 8))] * dims),
            st.tuples(*[st.none() | st.integers(0, 12)] * dims),
        )
    ),
    st.floats(0.02, 1.2),
    st.integers(1, 2),
    st.randoms(use_true_random=False),
)
def test_the_identity_comes_back_to_the_bit(drawn, share, channels, random):
    shape, step, reach = drawn
    image = volume((channels, *shape), random.randrange(2**31))
    image.flat[0] = -0.0
    out = np.full_like(image, np.nan)
    padded = math.prod(math.ceil(n / s) * s for n, s in zip(shape, step, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            memory, "room", lambda device, ceiling=None: max(int(share * padded), 3 ** len(shape) * math.prod(step))
        )
        patch.setattr(whole, "bytes_per_voxel", lambda *_: 1.0)
        infer(lambda x: x, from_array(image), out, Footprint(step, reach))
    assert out.tobytes() == image.tobytes()


# --- tiles and the whole ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "levels"), [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)])
@pytest.mark.parametrize("odd", [0, 3])
def test_tiles_with_the_whole_reach_give_what_the_whole_gives(with_voxels, dims, levels, odd):
    model = net(dims, levels)
    footprint = measure(restoring(model), model.alignment())
    shape = (80 * levels + odd, 40) if dims == 2 else (44 * levels + odd, 8, 12)
    image = volume((1, *shape))
    expected = restoring(model)(torch.from_numpy(image)[None])[0].numpy()
    out = np.empty_like(image)
    with_voxels(image.size * 0.95)
    found = infer(restoring(model), from_array(image), out, footprint)
    assert found.count > 1
    assert found.exact
    np.testing.assert_allclose(out, expected, atol=1e-5)
    moved = np.abs(out - image).max()
    assert moved > 0.01  # the network does something


def test_no_seams(with_voxels):
    """With too little memory for the whole reach, the error at borders of tiles is not above the error elsewhere."""
    model = net(2, 3, heads=0.02)
    footprint = measure(restoring(model), model.alignment())
    clean = np.add.outer(np.sin(np.arange(256) / 9), np.cos(np.arange(256) / 7)).astype(np.float32)[None]
    image = clean + 0.3 * volume(clean.shape)
    out = np.empty_like(image)
    with_voxels(64 * 64)
    found = infer(restoring(model), from_array(image), out, footprint)
    assert not found.exact
    assert found.count > 9
    error = (out - clean)[0] ** 2
    borders = np.zeros(error.shape, bool)
    for axis, own in enumerate(found.axes):
        for span in own[1:]:
            middle = span.keep[0] + int(np.argmax(span.weight > 0.5))
            borders[(slice(None),) * axis + (slice(middle - 2, middle + 2),)] = True
    assert error[borders].mean() < 1.05 * error[~borders].mean()


def test_the_answer_may_have_other_channels(with_voxels):
    image = volume((1, 20, 24))
    out = np.empty((2, 20, 24), np.float32)
    with_voxels(200)
    infer(lambda x: torch.cat((x, -x), 1), from_array(image), out, Footprint((1, 1), (0, 0)))
    np.testing.assert_array_equal(out, np.concatenate((image, -image)))


def test_two_and_a_half_dimensions_are_slices_that_see_their_neighbours(with_voxels):
    """A function that reads five slices to answer for the middle one: a reach of two along the first axis."""

    def five(x):  # (1, 1, S, H, W)
        padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 2, 2), mode="replicate")
        return padded.unfold(2, 5, 1).mean(-1)

    footprint = measure(five, (1, 1, 1))
    assert footprint.reach == (2, 0, 0)
    image = volume((1, 40, 6, 7))
    out = np.empty_like(image)
    with_voxels(10 * 42)
    found = infer(five, from_array(image), out, footprint, divisible=(True, False, False))
    assert found.count > 4
    np.testing.assert_allclose(out, five(torch.from_numpy(image)[None])[0].numpy(), atol=1e-6)


# --- how far a network sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_the_reach_of_a_convolution(kernel):
    layer = nn.Conv2d(1, 1, (kernel, 3), padding=(kernel // 2, 1))
    assert measure(layer, (1, 1)) == Footprint((1, 1), (kernel // 2, 1))


def test_the_reach_of_a_normalisation_has_no_bound():
    assert measure(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2)), (1, 1)).reach == (None, None)
    unet = UNet(dims=3, features=(2, 2, 2, 2, 2, 2), norm="instance").eval()
    assert measure(restoring(unet), unet.alignment()) == Footprint((16,) * 3, (None,) * 3)


def test_the_reach_of_a_periodic_border_has_no_bound():
    assert measure(lambda x: x + x.roll(1, 2), (1, 1)).reach == (None, 0)
    assert measure(lambda x: x + x.roll(-1, 3), (1, 1)).reach == (0, None)


def test_nothing_outside_the_reach_matters():
    model = net(2, 2)
    footprint = measure(restoring(model), model.alignment())
    (reach, other), step = footprint.reach, footprint.step[0]
    assert reach is not None
    assert reach == other
    image = torch.from_numpy(volume((1, 1, 256, 16)))
    begin = 128
    changed = image.clone()
    changed[:, :, : begin - reach] += 5
    changed[:, :, begin + step + reach :] -= 5
    before, after = (restoring(model)(x)[:, :, begin : begin + step] for x in (image, changed))
    assert torch.equal(before, after)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_counted_tensor():
    assert memory.bytes_of(lambda: torch.zeros(1000, dtype=torch.float64)) == 8000
    assert memory.bytes_of(lambda: [torch.zeros(1000).sum() for _ in range(10)]) < 4100
    assert memory.bytes_of(lambda: torch.zeros(1000) + 1) == 8000


def test_a_view_of_what_was_there_before_costs_nothing():
    volume = torch.zeros(1000)
    assert memory.bytes_of(lambda: volume[:10]) == 0
    assert memory.bytes_of(lambda: volume[:10] + 1) == 40
    assert memory.bytes_of(lambda: torch.zeros(1000)[:10]) == 4000


def test_what_a_job_asked_slurm_for_is_known_without_the_variables_of_its_script(monkeypatch, tmp_path):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\n[ $3 = 17 ] && echo 4000M\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for name, value, expected in (
        ("SLURM_JOB_ID", "18", 0),  # squeue does not know it
        ("SLURM_JOB_ID", "17", 4000 * 2**20),
        ("SLURM_MEM_PER_NODE", "3000", 3000 * 2**20),
        ("SLURM_MEM_PER_NODE", "0", 0),
    ):
        monkeypatch.setenv(name, value)
        assert memory._asked_of_slurm() == expected
    assert memory.available() > 0


def test_bytes_per_voxel_do_not_depend_on_the_volume():
    model = net(3, 2)
    footprint = Footprint((4, 4, 4), (10, 10, 10))
    found = [
        bytes_per_voxel(restoring(model), from_array(volume((1, n, n, n))), footprint, torch.device("cpu"))
        for n in (40, 64)
    ]
    assert found[0] == pytest.approx(found[1], rel=0.05)
    assert 20 < found[0] < 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [("2 GiB", 2**31), ("2g", 2**31), ("1500M", 1500 * 2**20), ("1.5 kb", 1536), ("12", 12), ("1TB", 2**40)],
)
def test_sizes_of_memory(text, size):
    assert memory.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-2 GiB", "0", "0.5", "0.9 b", "2 GiB 3"])
def test_sizes_that_are_none(text):
    with pytest.raises(MedwvaeError, match="reads like"):
        memory.parse_size(text)


@given(st.floats(1, 1e13))
def test_sizes_in_words_are_read_back(amount):
    assert memory.parse_size(memory.shown(amount)) == pytest.approx(amount, rel=0.01, abs=1)


def test_the_free_memory_is_that_of_the_smallest_group(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for folder, limit, used in ((inner, "max", 10), (tmp_path / "a", 5000, 1000), (tmp_path, 9000, 7000)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 3\ninactive_file 500\n")
    assert memory._free_of_groups(tmp_path, "/a/b") == [4500, 2500]
    assert 0 < memory.available() < 2**50


def test_what_a_job_of_slurm_asked_for_counts(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(2 + memory.resident() // 2**20))
    assert memory.available() < 16 * 2**20
    free = []
    for unlimited in ("0", ""):
        monkeypatch.setenv("SLURM_MEM_PER_NODE", unlimited)
        free.append(memory.available())
    assert min(free) > 16 * 2**20


def test_out_of_memory_is_tried_again_with_smaller_tiles(with_voxels, capsys):
    sizes = []

    def greedy(x):
        sizes.append(x.numel())
        if x.numel() > 100:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return x * 2

    image = volume((1, 20, 24))
    out = np.empty_like(image)
    with_voxels(480)
    found = infer(greedy, from_array(image), out, Footprint((2, 2), (0, 0)))
    np.testing.assert_array_equal(out, image * 2)
    assert found.largest <= 100
    assert "once more with half of that" in capsys.readouterr().err
    assert sizes[0] == 480


def test_memory_that_is_too_small_says_how_much_is_needed(with_voxels):
    def never(x):
        raise MemoryError

    image = volume((1, 20, 24))
    with_voxels(480)
    with pytest.raises(MedwvaeError, match=r"too little for any part .*for one tile; stop other jobs"):
        infer(never, from_array(image), np.empty_like(image), Footprint((2, 2), (0, 0)))
    with_voxels(3)
    with pytest.raises(MedwvaeError, match="3 B of memory"):
        infer(lambda x: x, from_array(image), np.empty_like(image), Footprint((2, 2), (0, 0)))


def test_a_ceiling_that_is_too_low_is_to_be_raised():
    image = volume((1, 20, 24))
    with pytest.raises(MedwvaeError, match=r"too little for any part .*; raise --max-memory"):
        infer(torch.abs, from_array(image), np.empty_like(image), Footprint((2, 2), (0, 0)), max_memory=2**20)


def test_another_error_is_no_lack_of_memory(with_voxels):
    def broken(x):
        raise RuntimeError("shape mismatch")

    image = volume((1, 8, 8))
    with_voxels(1e6)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        infer(broken, from_array(image), np.empty_like(image), Footprint((2, 2), (0, 0)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_words_of_lacking_memory(error):
    assert is_out_of_memory(error)


def test_no_memory_for_the_first_look_is_said(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(whole, "bytes_per_voxel", full)
    image = volume((1, 8, 8))
    with pytest.raises(MedwvaeError, match="no memory is left to look at the smallest part"):
        infer(torch.abs, from_array(image), np.empty_like(image), Footprint((2, 2), (0, 0)))


CARD = torch.device("cuda")


@pytest.fixture
def shares(monkeypatch):
    """Record the shares of a card of 4 GiB that PyTorch was allowed to take, half of it from the beginning."""
    found = [0.5]
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda card: SimpleNamespace(total_memory=2**32))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda card: found[-1], raising=False)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, card: found.append(share))
    return found


@pytest.mark.parametrize(("ceiling", "share"), [(2**30, 0.25), (2**40, 0.5)])
def test_a_ceiling_on_a_card_is_kept_by_pytorch_and_lifted_again(shares, ceiling, share):
    with pytest.raises(ValueError, match="inside"), memory.enforced(CARD, ceiling):
        assert shares == [0.5, share]
        raise ValueError("inside")
    assert shares == [0.5, share, 0.5]


def test_without_a_ceiling_or_a_card_nothing_is_kept(shares):
    for device, ceiling in ((CARD, None), (torch.device("cpu"), 2**30)):
        with memory.enforced(device, ceiling):
            assert shares == [0.5]


def test_the_ceiling_is_kept_while_tiles_are_computed(monkeypatch, with_voxels):
    asked: list[object] = []

    @contextmanager
    def enforced(device, ceiling):
        asked.append((device.type, ceiling))
        yield
        asked.append("lifted")

    monkeypatch.setattr(memory, "enforced", enforced)

    def compute(x):
        asked.append("tile")
        return x

    image = volume((1, 20, 24))
    with_voxels(200)
    infer(compute, from_array(image), np.empty_like(image), Footprint((2, 2), (0, 0)), max_memory=2**30)
    assert asked[0] == ("cpu", 2**30) and asked[-1] == "lifted"
    assert asked[1:-1] == ["tile"] * (len(asked) - 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_on_a_card_the_ceiling_holds_and_tiles_are_exact():
    exact_float32("32-true")
    model, ceiling = net(3, 2), 2**29
    footprint = measure(restoring(model), model.alignment())
    model.to(CARD)
    image = volume((1, 192, 160, 160))
    out = np.empty_like(image)
    torch.cuda.reset_peak_memory_stats()
    found = infer(restoring(model), from_array(image), out, footprint, device=CARD, max_memory=ceiling)
    assert found.count > 1
    assert found.exact
    assert torch.cuda.max_memory_reserved() <= ceiling
    expected = restoring(model)(torch.from_numpy(image)[None].to(CARD))[0].cpu().numpy()
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_volume_in_files(tmp_path, with_voxels):
    source = np.lib.format.open_memmap(tmp_path / "in.npy", "w+", np.float32, (1, 24, 20, 28))
    source[:] = volume(source.shape)
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, source.shape)
    with_voxels(8 * 20 * 28)
    infer(lambda x: 3 * x, from_array(source), out, Footprint((4, 4, 4), (4, 4, 4)))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), 3 * np.load(tmp_path / "in.npy"))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("reach", [(4, 4, 4), (None, 4, 4)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_volume_in_files_is_held_in_parts(tmp_path, monkeypatch, with_voxels, order, reach, channels):
    """Short rows of a tile touch whole pages, so that few sections are mapped at once; what comes out is the same."""
    shape = (channels, 23, 20, 27)
    kept = {
        name: np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float32, shape, order == "F")
        for name in ("in", "out")
    }
    kept["in"][:] = volume(shape)
    monkeypatch.setattr(whole, "MAPPED", 3 * channels * 20 * 27 * 4)
    with_voxels(9 * 20 * 28)
    plan = infer(lambda x: 3 * x, from_array(kept["in"]), kept["out"], Footprint((4, 4, 4), reach))
    expected = np.empty(shape, np.float32)
    assert infer(lambda x: 3 * x, from_array(volume(shape)), expected, Footprint((4, 4, 4), reach)) is not None
    assert plan.count > 1
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_the_ceiling_counts_what_the_process_holds():
    device, ceiling = torch.device("cpu"), memory.resident() + 2**28
    assert memory.room(device, ceiling) == pytest.approx(memory.OF_CEILING * ceiling - memory.resident(), rel=0.1)
    assert memory.room(device, 2**50) <= memory.SHARE * memory.available() * 1.1  # no more than there is
    assert memory.room(device) <= memory.SHARE * memory.available() * 1.1
    assert memory.peak() >= memory.resident() * 0.9


def test_jobs_that_run_side_by_side_share_the_memory(monkeypatch):
    device, job = torch.device("cpu"), 2**33
    monkeypatch.setattr(memory, "_free_of_machine", lambda: 2**40)
    monkeypatch.setattr(memory, "_free_of_groups", lambda *_: [])
    monkeypatch.setattr(memory, "_asked_of_slurm", lambda: 0)
    monkeypatch.delenv("MEDWVAE_JOBS", raising=False)
    alone = memory.room(device)
    monkeypatch.setenv("MEDWVAE_JOBS", "4")
    assert memory.room(device) == pytest.approx(alone / 4, abs=4)
    monkeypatch.setattr(memory, "_asked_of_slurm", lambda: job)  # which is this job's alone
    assert memory.room(device) == pytest.approx(memory.SHARE * (job - memory.resident()), rel=0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the high-water mark of a process by itself")
def test_the_high_water_mark_is_that_of_this_process_alone(monkeypatch):
    """What `getrusage` says begins, after a fork, with what the process had that started this one."""
    monkeypatch.setattr(resource, "getrusage", None)
    before = memory.peak()
    ballast = np.ones(2**23)  # 64 MiB
    assert before <= memory.peak() <= before + 2 * ballast.nbytes
    assert memory.peak() >= 0.99 * memory.resident()
