"""Which multimodal models vLLM serves without some layers of their language model, and what they need.

It imports no vLLM, so that a server is refused before it starts.
"""

import importlib.util

from drop_ray.models.wrappers import IMPORT

# Compared with transformers on text and images by tests/serving/wrapper_engine.py.
SERVED_WRAPPERS = (
    "Gemma3ForConditionalGeneration",
    "Gemma4ForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForConditionalGeneration",
    "Llama4ForConditionalGeneration",
)
# What vLLM 0.32 for CPUs makes of their images, of full models too.
IMAGES_ON_CPU = {
    "Gemma3ForConditionalGeneration": "lets a token of an image see only what is before it; answers to text are right",
    "Llama4ForConditionalGeneration": "fails on images: give --limit-mm-per-prompt '{\"image\": 0}'",
}


def why_not_served(architecture: str, location: str) -> str | None:
    """Why a wrapper of this class is not served here, with the remedy; None if it is."""
    if architecture not in SERVED_WRAPPERS:
        return (
            f"{location} is a {architecture}, of which vLLM with drop_ray serves the language model alone; "
            f"{IMPORT.format(location=location)}"
        )
    if not has_torchvision():
        return f"{location} is a {architecture}, whose class in vLLM needs torchvision: pip install torchvision"
    return None


def has_torchvision() -> bool:
    """Whether there is one to import."""
    return importlib.util.find_spec("torchvision") is not None
