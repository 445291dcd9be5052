"""Bases whose own files are quantized (FP8, MXFP4, packed integers): read in 16 bits, exported as they are stored."""
