"""Texts and data sets to packed token samples."""
