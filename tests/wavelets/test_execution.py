"""How it runs: compiled by torch.compile, on any number of threads, and in forked workers."""

import multiprocessing

import pytest
import torch

from medwvae.wavelets import dwt, idwt, jit
from tests.wavelets.cases import image, tensors


@pytest.fixture
def threads(monkeypatch):
    """Set the number of threads, which are used for images of any size; put the old one back afterwards."""
    monkeypatch.setattr(jit, "SERIAL_BELOW", 1 << 10)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("wavelet", ["haar", "bior2.2"])
def test_torch_compile_without_a_graph_break(wavelet):
    def shrunk(x):
        coefficients = dwt(x, (2, 1), 2, wavelet, "symmetric")
        return idwt(coefficients.map(lambda name, level, b: b if name == "aa" else torch.tanh(b * level)))

    x = image(11, 12).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(shrunk, fullgraph=True, backend="aot_eager")
    found, expected = compiled(x), shrunk(x)
    torch.testing.assert_close(found, expected)
    weights = image(11, 12, seed=1)
    (gradient,) = torch.autograd.grad(torch.sum(found * weights), x)
    (exact,) = torch.autograd.grad(torch.sum(expected * weights), x)
    torch.testing.assert_close(gradient, exact)


@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_the_operators_keep_the_contract_of_custom_operators(wavelet):
    """Schema, no aliases, shapes without data; torch.compile relies on them."""
    x = image(5, 6, batch=1, channels=2)
    torch.library.opcheck(torch.ops.medwvae.wavelet_split, (x, wavelet, "symmetric", False))
    c = dwt(x, 1, 2, wavelet, "symmetric")
    torch.library.opcheck(torch.ops.medwvae.wavelet_merge, (*tensors(c), [5, 6], wavelet, "symmetric", False))


@pytest.mark.parametrize("wavelet", ["haar", "db3"])
@pytest.mark.parametrize("shape", [(100_001,), (530, 501), (61, 64, 73), (7, 1, 37_501)])
def test_the_number_of_threads_changes_no_bit(shape, wavelet, threads):
    x = image(*shape, batch=1, channels=3 if len(shape) == 1 else 1, dtype=torch.float32)
    results = []
    for number in (1, 2, 3):
        threads(number)
        leaf = x.clone().requires_grad_()
        coefficients = dwt(leaf, 2, len(shape), wavelet, "reflect")
        back = idwt(coefficients)
        (gradient,) = torch.autograd.grad(back.pow(3).sum(), leaf)
        results.append((*tensors(coefficients), back, gradient))
    torch.testing.assert_close(results[0][-2], x, rtol=0, atol=1e-5)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    "wavelet",
    [
        "haar",
        "db3",
    ],
)
@pytest.mark.parametrize("shape", [(1, 300_000), (1, 530, 501)])
def test_a_large_image_of_a_single_row_or_slice(shape, wavelet, threads):
    threads(2)
    x = image(*shape, batch=1, channels=1, dtype=torch.float32)
    torch.testing.assert_close(idwt(dwt(x, 1, len(shape), wavelet)), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_recording_for_gradients_changes_no_bit(wavelet):
    x = image(9, 14)
    plain, recorded = dwt(x, (2, 1), 2, wavelet), dwt(x.clone().requires_grad_(), (2, 1), 2, wavelet)
    assert recorded.approximation.requires_grad
    assert not plain.approximation.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(tensors(plain), tensors(recorded), strict=True))
    assert torch.equal(idwt(plain), idwt(recorded))


def _send(connection, x, wavelet):
    connection.send(dwt(x, 1, 2, wavelet).approximation.numpy())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_a_forked_child_has_its_own_threads(wavelet, threads):
    threads(2)
    x = image(530, 501, batch=1, channels=1)
    expected = dwt(x, 1, 2, wavelet).approximation  # the parent's threads are now alive; the child will lack them
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, x, wavelet))
    child.start()
    try:
        assert receiver.poll(60), "the child waits for threads that it does not have"
        assert torch.equal(torch.from_numpy(receiver.recv()), expected)
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
