import pytest
import torch

from medwvae.wavelets import dwt, idwt, idwt_variance


@pytest.mark.parametrize(
    ("shape", "levels"), [((8, 4), 2), ((7, 5), 2), ((6,), 1), ((3, 4, 6), (1, 2, 2))], ids=lambda v: str(v)
)
def test_it_is_the_sum_of_squares_of_the_inverse(shape, levels):
    layout = dwt(torch.zeros(1, 1, *shape), levels, len(shape))
    generator = torch.Generator().manual_seed(0)
    variances = layout.map_stacked(lambda kind, level, part: torch.rand(part.shape, generator=generator))
    parts = [variances.approximation, *variances.details]
    expected = torch.zeros(1, 1, *shape)
    for k, part in enumerate(parts):
        for place, variance in enumerate(part.flatten()):
            unit = [torch.zeros(one.shape) for one in parts]
            unit[k].view(-1)[place] = 1
            expected += variance * idwt(layout.replace(unit[0], tuple(unit[1:]))).square()
    torch.testing.assert_close(idwt_variance(variances), expected)


def test_energy_is_kept():
    x = torch.rand(2, 3, 16, 8, generator=torch.Generator().manual_seed(0))
    energy = idwt_variance(dwt(x, 3).map_stacked(lambda kind, level, part: part.square()))
    torch.testing.assert_close(energy.sum((2, 3)), x.square().sum((2, 3)))


def test_only_of_haar():
    with pytest.raises(ValueError, match="got db2"):
        idwt_variance(dwt(torch.zeros(1, 1, 8, 8), 1, 2, "db2"))
