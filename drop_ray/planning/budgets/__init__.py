"""Budgets: which sub-layers to drop so that limits hold, at the smallest sum of their scores. Pure."""
