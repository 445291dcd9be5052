"""Strategies choose the modules to drop next: one file per strategy, listed in `drop_ray.extensions.STRATEGIES`.

Definitions: He et al., "What Matters in Transformers?", arXiv 2406.15786. Where two modules are equally redundant, the
deeper one is dropped first (the published drop orders start at the deep layers), and attention before MLP in a layer.
"""
