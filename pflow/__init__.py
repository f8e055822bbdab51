"""Preconditioned normalizing flows for Bayesian inverse problems."""

__version__ = "0.1.0"
