"""Preconditioned normalizing flows for Bayesian inverse problems."""
