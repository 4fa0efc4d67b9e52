"""How good generated images are, without downloaded networks: features, distances, diversity, memorisation, detail.

>>> compare(real, samples, features_named("scattering"), data_range=1.0)["frechet"]

Definitions and ranges are in docs/fidelity.md.
"""

from medwvae.fidelity.compare import compare
from medwvae.fidelity.features import Features, OrthogonalSlices, TorchScriptFeatures, extract, features_named
from medwvae.fidelity.scattering import ScatteringFeatures

__all__ = [
    "Features",
    "OrthogonalSlices",
    "ScatteringFeatures",
    "TorchScriptFeatures",
    "compare",
    "extract",
    "features_named",
]
