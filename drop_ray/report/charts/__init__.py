"""Drawings as inline SVG: one chart for every curve, one heat map, and what both are drawn with."""
