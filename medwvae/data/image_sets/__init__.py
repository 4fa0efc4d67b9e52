"""Sets of photographs and digits for the generative models: CIFAR-10, CelebA-HQ, MNIST; random draws from them."""

from medwvae.data.image_sets.images import ImageSet
from medwvae.data.image_sets.read import classes_of, files_of, image_shape, read_image_set
from medwvae.data.image_sets.sampling import ImageSampler, ImageValidation
from medwvae.data.image_sets.scaling import signature

__all__ = [
    "ImageSampler",
    "ImageSet",
    "ImageValidation",
    "classes_of",
    "files_of",
    "image_shape",
    "read_image_set",
    "signature",
]
