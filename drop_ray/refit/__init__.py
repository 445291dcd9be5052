"""Solves the output projections of a dropped model anew, so that the residual stream comes back to the base's."""
