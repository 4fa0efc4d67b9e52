"""The house: a room imports only from its own floor and from those below, and never in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from medwvae.provenance import PACKAGE, imports_of

FLOORS = (
    (
        "config config_base config_generative config_io errors files names paths progress provenance seeding",
        "vocabulary, configuration, paths",
    ),
    (
        "anatomy degradation fidelity fidelity.codecs fidelity.compare fidelity.distances fidelity.diversity "
        "fidelity.features fidelity.manifolds fidelity.memorisation fidelity.scattering fidelity.spectrum geometry "
        "intensity metrics metrics.coverage metrics.ct metrics.definitions metrics.edges metrics.filters "
        "metrics.kernels "
        "metrics.lesions metrics.multiscale metrics.similarity metrics.subbands metrics.voxels operators "
        "operators.base operators.beams operators.cartesian operators.coils operators.fourier operators.inpainting "
        "operators.masks operators.measurement operators.noise operators.phase operators.radial operators.radon "
        "operators.resampling operators.solvers protocols scores self_supervision statistics "
        "statistics.comparisons statistics.conformal statistics.intervals statistics.power statistics.subgroups "
        "unsupported volumetric wavelets wavelets.boundary wavelets.coefficients wavelets.exchange "
        "wavelets.fallback wavelets.filters wavelets.fir wavelets.haar wavelets.jit wavelets.kernels "
        "wavelets.level wavelets.linear wavelets.matrices wavelets.transform wavelets.variance",
        "mathematics and physics",
    ),
    (
        "losses optimisers nets nets.autoencoder_kl nets.blocks nets.controls nets.conv_bodies nets.conv_latent "
        "nets.conv_vae nets.dense_vae nets.detail_prior nets.diffusion_prior nets.dncnn nets.labels nets.latent "
        "nets.latent_diffusion nets.latent_packing nets.noise_scale nets.normal_prior nets.posterior nets.push_pull "
        "nets.rates nets.restorer nets.restoring_encoder nets.shrinkage nets.unet nets.unrolled_unet "
        "nets.wavelet_encoder nets.wavelet_latent nets.wavelet_trunk nets.wavelet_vae nets.zones",
        "networks",
    ),
    (
        "data data.bids data.cleanable data.confidentiality data.contrast data.convert data.deidentify "
        "data.deidentify_journal data.deidentify_tree data.dicom data.dicom.geometry data.dicom.headers "
        "data.dicom.jpeg data.dicom.mosaic data.dicom.multiframe data.dicom.pixels data.dicom.records "
        "data.dicom.repair data.dicom.scale data.dicom.sidecar data.dicom.stacks data.dicom.tells "
        "data.dicom.values data.dicom_export data.dicom_export_header data.dicom_export_map "
        "data.dicom_export_modules data.dicom_export_source data.dicom_write data.export data.header_words "
        "data.identifiers data.image_sets data.image_sets.cifar10 data.image_sets.folder data.image_sets.images "
        "data.image_sets.mnist data.image_sets.plain_pickle data.image_sets.read data.image_sets.sampling "
        "data.image_sets.scaling data.ingest data.lesions data.loaders data.manifest data.nifti data.phantom "
        "data.phantom.anatomy data.phantom.brain data.phantom.cohort data.phantom.headers data.phantom.shapes "
        "data.phantom.signal data.records data.sources data.splits data.subjects data.transforms data.tree",
        "data",
    ),
    (
        "baselines baselines.ct baselines.denoise baselines.inpaint baselines.recon baselines.superres "
        "baselines.tuning baselines.variation checkpoint evaluate generative generative.images "
        "generative.likelihood generative.placement generative.reconstruction generative.scoring "
        "generative.sources generative.table inference inference.footprint inference.lanes inference.memory "
        "inference.restorers inference.tiles inference.whole latents latents.coefficients latents.edit "
        "latents.examples latents.figures latents.fillings latents.heatmap latents.holes latents.impute "
        "latents.interpolate latents.places latents.sample latents.uses load parallel precision report report.card "
        "report.cases report.cohort report.compare report.compare_page report.document report.failures report.figures "
        "report.generative report.inputs report.page report.panels report.tables report.text report.uncertainty "
        "report.uses report.volumes report.words restore supply train zero_shot",
        "work on the data",
    ),
    (
        "build",
        "configuration to objects",
    ),
    (
        "cli stages stages.arguments stages.coefficients stages.cohort stages.comparing stages.export "
        "stages.generation stages.latent_coefficients stages.latents stages.plan stages.privacy stages.reporting "
        "stages.restoration "
        "stages.training",
        "entries",
    ),
)
FLOOR_OF = {f"medwvae.{name}": floor for floor, (names, _) in enumerate(FLOORS) for name in names.split()}
MODULES = sorted(
    "medwvae" + "".join(f".{part}" for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__")
    for path in PACKAGE.rglob("*.py")
)
ROOMS = [module for module in MODULES if module != "medwvae"]
KNOWS_CONFIG = {"medwvae.config", "medwvae.config_io", "medwvae.build", "medwvae.cli"} | {
    f"medwvae.stages.{name}"
    for name in (
        "plan",
        "cohort",
        "training",
        "generation",
        "latents",
        "latent_coefficients",
        "restoration",
        "reporting",
        "export",
    )
}
GROUND_FLOOR_MAY_USE = {"medwvae", "pydantic", "pydantic_core", "yaml", "rich"}


def rooms_imported_by(module):
    """Everything of medwvae that a module imports, but for the packages around it, which Python runs first anyway."""
    return {name for name in imports_of(module) - {"medwvae", module} if not module.startswith(f"{name}.")}


def top_level_packages_of(module):
    path = PACKAGE.joinpath(*module.split(".")[1:])
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names.add(str(node.module).split(".")[0])
    return names - set(sys.stdlib_module_names)


def test_every_room_has_its_floor():
    assert sorted(FLOOR_OF) == ROOMS


@pytest.mark.parametrize("module", ROOMS)
def test_no_import_runs_upward(module):
    upward = {name for name in rooms_imported_by(module) if FLOOR_OF[name] > FLOOR_OF[module]}
    assert not upward


@pytest.mark.parametrize("module", ROOMS)
def test_only_the_top_floors_see_the_configuration(module):
    if module not in KNOWS_CONFIG:
        known = {"medwvae.config", "medwvae.config_io", "medwvae.config_generative"}
        assert not rooms_imported_by(module) & known


def test_no_room_imports_itself_through_others():
    TopologicalSorter({module: rooms_imported_by(module) for module in ROOMS}).prepare()  # CycleError names the circle


@pytest.mark.parametrize("module", [module for module in ROOMS if FLOOR_OF[module] == 0])
def test_the_ground_floor_is_light(module):
    assert top_level_packages_of(module) <= GROUND_FLOOR_MAY_USE


def test_the_ground_floor_imports_neither_torch_nor_numpy():
    rooms = ", ".join(module for module in ROOMS if FLOOR_OF[module] == 0)
    code = f"import {rooms}, sys; assert not {{'torch', 'numpy', 'monai'}} & set(sys.modules), sorted(sys.modules)[:9]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_the_package_itself_is_empty():
    assert imports_of("medwvae") == set()
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert all(isinstance(node, ast.Expr) for node in tree.body)
