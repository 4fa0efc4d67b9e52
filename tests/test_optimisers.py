"""Muon: orthogonal steps, PyTorch's own as the reference, AdamW beside it."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medwvae.optimisers import Muon, is_matrix, orthogonalised

SIZES = st.integers(1, 40)


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.integers(0, 1000), st.sampled_from([1e-3, 1.0, 1e4]))
def test_singular_values_come_near_one_and_the_singular_vectors_stay(rows, columns, seed, size):
    # Conditioned, for the smallest singular values need more steps than five.
    u, _, v = torch.linalg.svd(matrix(rows, columns, seed), full_matrices=False)
    values = torch.linspace(0.3, 1, len(v))
    found = orthogonalised(size * u @ torch.diag(values) @ v)
    inner = u.T @ found @ v.T
    assert torch.diagonal(inner).min() > 0.5
    assert torch.diagonal(inner).max() < 1.5
    torch.testing.assert_close(inner, torch.diag(torch.diagonal(inner)), rtol=0, atol=1e-3)


def test_nothing_stays_nothing():
    assert not orthogonalised(torch.zeros(3, 5)).any()


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_steps_are_those_of_pytorchs_own(shape):
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon of its own")
    ours = nn.Parameter(matrix(*shape))
    theirs = nn.Parameter(ours.detach().clone())
    options: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1}
    mine = Muon([{"params": [ours], "orthogonal": True, **options}], lr=0.02)
    reference = torch.optim.Muon([theirs], momentum=0.95, **options)
    for step in range(5):
        for p in (ours, theirs):
            p.grad = matrix(shape[0], shape[1], seed=step + 1)
        mine.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.005)  # theirs multiplies in bfloat16
    assert float((ours.detach() - matrix(*shape)).abs().max()) > 0.02


def test_other_groups_are_adamws():
    ours, theirs = (nn.Parameter(matrix(4, 3)) for _ in range(2))
    mine = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.01)
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for step in range(4):
        for p in (ours, theirs):
            p.grad = matrix(4, 3, seed=step + 1)
        mine.step()
        reference.step()
    assert torch.equal(ours, theirs)


def test_a_kernel_is_the_matrix_of_its_outputs():
    kernel, flat = nn.Parameter(matrix(12, 18).reshape(12, 2, 3, 3)), nn.Parameter(matrix(12, 18))
    for p in (kernel, flat):
        optimiser = Muon([{"params": [p], "orthogonal": True}], lr=0.1)
        p.grad = matrix(12, 18, seed=1).reshape(p.shape)
        optimiser.step()
    assert torch.equal(kernel.flatten(1), flat)
    assert is_matrix(kernel)
    assert not is_matrix(flat)
    assert not is_matrix(torch.zeros(1, 32, 3, 3))
    assert not is_matrix(torch.zeros(32, 1, 2, 2))


def test_the_layout_in_memory_changes_nothing():
    plain, last = (nn.Parameter(matrix(12, 18).reshape(12, 2, 3, 3).to(memory_format=layout))
                   for layout in (torch.contiguous_format, torch.channels_last))  # fmt: skip
    for p in (plain, last):
        optimiser = Muon([{"params": [p], "orthogonal": True}], lr=0.1)
        for seed in (1, 2):
            p.grad = torch.empty_like(p).copy_(matrix(12, 18, seed=seed).reshape(p.shape))
            optimiser.step()
    torch.testing.assert_close(last.detach(), plain.detach())


def test_saved_and_loaded_it_goes_on():
    def steps(p, optimiser, first, last):
        for step in range(first, last):
            p.grad = matrix(12, 18, seed=step)
            optimiser.step()

    def made(start):
        p = nn.Parameter(start.clone())
        return p, Muon([{"params": [p], "orthogonal": True}], lr=0.1)

    whole, optimiser = made(matrix(12, 18))
    steps(whole, optimiser, 1, 7)
    half, optimiser = made(matrix(12, 18))
    steps(half, optimiser, 1, 4)
    state = copy.deepcopy(optimiser.state_dict())
    rest, optimiser = made(half.detach())
    optimiser.load_state_dict(state)
    steps(rest, optimiser, 4, 7)
    assert torch.equal(rest, whole)


def test_a_parameter_without_a_gradient_stays():
    p = nn.Parameter(matrix(12, 18))
    Muon([{"params": [p], "orthogonal": True}], lr=0.1).step()
    assert torch.equal(p, matrix(12, 18))
    quadratic = nn.Parameter(matrix(12, 18))
    optimiser = Muon([{"params": [quadratic], "orthogonal": True}], lr=0.1)

    def closure():
        optimiser.zero_grad()
        loss = quadratic.square().sum()
        loss.backward()
        return loss

    values = [float(optimiser.step(closure).detach()) for _ in range(10)]
    assert values == sorted(values, reverse=True)
