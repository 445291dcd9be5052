"""Memory of the host that large tensors of different sizes come and go in, layer after layer."""

import ctypes


def give_back_freed() -> None:
    """Return to the system what the C library keeps of freed memory, where it can (glibc).

    Of tensors of some ten megabytes it would keep one layer's more with every layer.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
