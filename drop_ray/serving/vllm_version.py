"""The version of vLLM whose internals vllm_private.py was written for."""

VLLM_VERSION = "0.32"


def version_mismatch(version: str) -> str | None:
    """None if this package fits that version of vLLM, else what to say about it, with the remedy."""
    if version.startswith(f"{VLLM_VERSION}."):
        return None
    return f"drop_ray serves with vLLM {VLLM_VERSION}, this is {version}: pip install 'vllm=={VLLM_VERSION}.*'"
