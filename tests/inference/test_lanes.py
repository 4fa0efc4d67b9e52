"""Tiles to the device and back: order, errors, what is moved. Streams need a card; the order of work does not."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from medwvae.inference.lanes import Lanes, mapped, stream
from medwvae.operators import Masking, Measurement
from medwvae.volumetric import as_volumes

CPU = torch.device("cpu")


@dataclass
class Item:
    image: Tensor
    level: Tensor | None = None
    name: str = "one"


def test_tiles_are_written_in_order_and_read_ahead():
    log = []

    def read(tile):
        log.append(("read", tile))
        return torch.tensor([float(tile)])

    def compute(x):
        log.append(("compute", int(x)))
        return 2 * x

    written = []
    stream(range(5), read, compute, lambda tile, answer: written.append((tile, float(answer))), CPU)
    assert written == [(tile, 2.0 * tile) for tile in range(5)]
    assert [entry for entry in log if entry[0] == "read"] == [("read", tile) for tile in range(5)]
    for tile in range(5):
        assert log.index(("read", tile)) < log.index(("compute", tile))


def test_nothing_to_do_is_done():
    stream((), lambda tile: torch.zeros(1), lambda x: x, lambda tile, answer: pytest.fail("written"), CPU)


@pytest.mark.parametrize("place", ["read", "compute", "write"])
def test_an_error_comes_out_wherever_it_happens(place):
    def at(name, value):
        if name == place and int(value) == 2:
            raise ValueError(f"at the {place}")
        return value

    written = []

    def write(tile, answer):
        at("write", answer)
        written.append(tile)

    with pytest.raises(ValueError, match=f"at the {place}"):
        stream(range(5), lambda t: at("read", torch.tensor(t)), lambda x: at("compute", x), write, CPU)
    assert written == [0, 1]


def test_all_tensors_of_a_dataclass_are_mapped():
    item = Item(torch.ones(2), None, "two")
    found = mapped(item, lambda x: x + 1)
    assert torch.equal(found.image, torch.full((2,), 2.0))
    assert (found.level, found.name) == (None, "two")
    assert torch.equal(mapped(torch.zeros(1), lambda x: x + 1), torch.ones(1))
    nested = mapped((Item(torch.zeros(1)), torch.ones(1)), lambda x: x + 1)
    assert [float(nested[0].image), float(nested[1])] == [1, 2]
    assert mapped("text", lambda x: x) == "text"


def test_on_a_cpu_nothing_is_copied():
    lanes, image = Lanes(CPU), torch.ones(3)
    assert lanes.upload(lanes.pinned(image)) is image
    assert lanes.download(image)().data_ptr() == image.data_ptr()


def test_what_is_pinned_is_a_part_without_the_whole_around_it(monkeypatch):
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: x)  # which keeps strides, as that of PyTorch does
    lanes = Lanes(CPU)
    monkeypatch.setattr(lanes, "inward", object())
    whole = torch.arange(24.0).reshape(4, 6)
    found = lanes.pinned(Item(whole[:, 2:4], whole.to_sparse())).image
    assert found.is_contiguous()
    assert torch.equal(found, whole[:, 2:4])


def test_each_tensor_of_volumes_is_pinned_once_and_their_operators_with_them(monkeypatch):
    pinned: list[int] = []

    def pin(x):
        pinned.append(x.numel())
        return x

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    lanes = Lanes(CPU)
    monkeypatch.setattr(lanes, "inward", object())
    images = torch.rand(2, 3, 1, 8, 8)
    masks = [Masking(torch.rand(1, 1, 8, 8) > 0.2) for _ in images]
    parts = [Measurement(x, operator, operator.forward(x)) for x, operator in zip(images, masks, strict=True)]
    found = lanes.pinned(as_volumes(parts))
    assert sorted(pinned) == [64, 64] + [images[0].numel()] * 4  # masks; start and data of each
    assert torch.equal(found.start, images.movedim(1, 2)) and found.known is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_streams_give_what_no_streams_give():
    images = [torch.randn(64, 64) for _ in range(20)]
    weight = torch.randn(64, 64)
    found: dict[str, dict[int, Tensor]] = {}
    for device in (CPU, torch.device("cuda")):
        answers = found[device.type] = {}
        stream(range(20), images.__getitem__, partial(torch.matmul, weight.to(device)), answers.__setitem__, device)
    for tile in range(20):
        torch.testing.assert_close(found["cuda"][tile], found["cpu"][tile], rtol=1e-3, atol=1e-3)
