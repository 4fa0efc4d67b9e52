"""Synthetic MR and CT heads: every subject drawn from a seed, none of them a patient."""

from medwvae.data.phantom.cohort import make_cohort

__all__ = ["make_cohort"]
