"""What is done with the wavelet coefficients of any NIfTI volume, without a model: edit, heatmap."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae.errors import InputError
from medwvae.progress import say
from medwvae.stages.arguments import numbers, said

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medwvae.wavelets import Coefficients


def edit(
    source: Path,
    out: Path,
    gains: Sequence[str],
    *,
    inside: Sequence[str] = (),
    mask: Path | None = None,
    protect: bool = False,
    wavelet: str = "db4",
    levels: str = "3",
    mode: Any = "symmetric",
    dims: int = 3,
    axis: int | None = None,
) -> None:
    """Write a NIfTI volume with its wavelet coefficients multiplied by gains, outside and inside a mask."""
    import numpy as np
    import torch

    from medwvae.data import nifti
    from medwvae.latents.edit import edit as scale_bands

    named_output(source, out)
    volume, affine = nifti.read(present(source))
    inner = None if mask is None else on_grid(mask, volume, affine)
    with said():
        if inner is None and inside:
            raise ValueError("gains inside a mask need a mask: add --mask")
        across = _across(affine, axis) if dims == 2 else None
        edited = scale_bands(
            torch.from_numpy(_batch(volume, across).astype(np.float64)),
            gains_in(gains),
            None if inner is None else torch.from_numpy(_batch(inner, across)),
            inside=gains_in(inside) if inside else None,
            protect=protect,
            levels=_levels(levels),
            spatial_dims=_dims(dims),
            wavelet=wavelet,
            mode=mode,
        ).numpy()
    result = np.ascontiguousarray(_unbatch(edited, across).astype(np.float32))
    nifti.write(out, result, affine)
    difference = result.astype(np.float64) - volume
    for place, voxels in {"everywhere": None, "outside the mask": False, "inside the mask": True}.items():
        if (voxels is None) == (inner is None):
            part = difference if inner is None else difference[inner == voxels]
            kept = np.mean(part == 0)
            say(
                f"edit: changed {place} by {np.sqrt(np.mean(part**2)):.4g} (RMS); {kept:.1%} of its voxels are the same"
            )


def heatmap(
    source: Path,
    out: Path,
    *,
    wavelet: str = "db4",
    levels: str = "3",
    mode: Any = "symmetric",
    dims: int = 2,
    axis: int | None = None,
    index: int | None = None,
) -> None:
    """Write a figure of |coefficient| per level and orientation of one slice of a NIfTI volume."""
    import numpy as np
    import torch

    from medwvae.data import nifti
    from medwvae.geometry import to_ras
    from medwvae.latents import figures
    from medwvae.latents.examples import turned
    from medwvae.latents.heatmap import heatmaps
    from medwvae.wavelets import dwt

    named_figure(out)
    # In the closest RAS+, so that every volume is shown the same way up.
    volume, affine = to_ras(*nifti.read(present(source)))
    across = _across(affine, axis)
    size = volume.shape[across]
    chosen = size // 2 if index is None else index
    if not 0 <= chosen < size:
        raise InputError(f"--index is {chosen}; the volume has slices 0 to {size - 1} along axis {across}")
    slices = np.ascontiguousarray(np.moveaxis(volume, across, 0).astype(np.float64))
    with said():
        # In 3D the maps come from all slices, and one of them is shown.
        image = slices[None, None] if _dims(dims) == 3 else slices[None, None, chosen]
        coefficients: Coefficients = dwt(torch.from_numpy(image), _levels(levels), dims, wavelet, mode)
        maps = heatmaps(coefficients)
    shown = {
        level: {name: turned((one[0, 0, chosen] if dims == 3 else one[0, 0]).numpy()) for name, one in bands.items()}
        for level, bands in maps.items()
    }
    figure = figures.heatmaps(turned(slices[chosen] - slices.min()), shown)
    figures.save(out, figure, f"Magnitude of {wavelet} coefficients per level and orientation, slice {chosen}")
    say(f"heatmap: {len(maps)} levels, slice {chosen} along axis {across}")


def named_output(source: Path, out: Path) -> None:
    """Raise `InputError` for the name of an edited volume that is none of a NIfTI file, or that of its source."""
    if not out.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{out} is no name of a NIfTI file; end it in .nii.gz")
    if out.resolve() == source.resolve():
        raise InputError("the edited volume would replace the one that it is made from; give another name")


def named_figure(out: Path) -> None:
    """Raise `InputError` for a name that is none of a PNG file."""
    if out.suffix.lower() != ".png":
        raise InputError(f"{out} is no name of a PNG file; end it in .png")


def on_grid(path: Path, volume: "NDArray[np.float32]", affine: "NDArray[np.float64]") -> "NDArray[np.bool_]":
    """Read a mask; every voxel that is not zero lies inside."""
    import numpy as np

    from medwvae.data import nifti
    from medwvae.errors import Refusal

    try:
        mask, own = nifti.read(present(path))
    except Refusal as error:
        raise Refusal(f"the mask: {error}") from error
    if mask.shape != volume.shape:
        shapes = ["x".join(map(str, array.shape)) for array in (mask, volume)]
        raise InputError(f"the mask has {shapes[0]} voxels, the volume {shapes[1]}: draw it on the volume's own grid")
    if not np.allclose(own, affine, atol=1e-3):
        raise InputError(
            "the mask has as many voxels as the volume, but they lie elsewhere in the patient (another affine): "
            "draw it on the volume's own grid, or resample it onto that"
        )
    return np.asarray(mask != 0)


def present(path: Path) -> Path:
    """Return the path of a file; raise `InputError` where there is none."""
    if not path.is_file():
        raise InputError(f"{path} is no file")
    return path


def _across(affine: "NDArray[np.float64]", axis: int | None) -> int:
    """Return the axis across the slices: the given one, or that of the thickest voxels."""
    from medwvae.data.transforms import slice_axis
    from medwvae.geometry import spacing_of

    if axis is None:
        return slice_axis(spacing_of(affine), "acquired")
    if axis not in (0, 1, 2):
        raise InputError(f"--axis is {axis}, expected 0, 1 or 2")
    return axis


def _batch(volume: "NDArray[Any]", across: int | None) -> "NDArray[Any]":
    """Return a volume as a batch: one image (1, 1, X, Y, Z), or its slices (S, 1, H, W)."""
    import numpy as np

    return np.ascontiguousarray(volume[None, None] if across is None else np.moveaxis(volume, across, 0)[:, None])


def _unbatch(images: "NDArray[Any]", across: int | None) -> "NDArray[Any]":
    import numpy as np

    return images[0, 0] if across is None else np.moveaxis(images[:, 0], 0, across)


def _dims(dims: int) -> int:
    if dims not in (2, 3):
        raise ValueError(f"--dims is {dims}; 2 works slice by slice, 3 on the volume")
    return dims


def gains_in(texts: Sequence[str]) -> dict[str, float]:
    """Read 'level1=0', 'ad2=1.5', 'details=0.5', ..."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name.strip() in found:
            raise InputError(f"there are two gains for {name.strip()}; give one")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise InputError(f"the gain {text!r} is not of the form NAME=FACTOR, as in level1=0") from None
    return found


def _levels(text: str) -> int | tuple[int, ...]:
    found = numbers(text, "--levels")
    return found[0] if len(found) == 1 else found
