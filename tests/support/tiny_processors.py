"""The processors of tiny wrappers: a tokenizer with the tokens of images, and what makes numbers of pixels.

Those of transformers need torchvision.
"""

import transformers
from PIL import Image
from tiny_models import make_tokenizer
from tiny_wrappers import IMAGE, WRAPPED
from transformers import AddedToken, PreTrainedTokenizerFast

# Tokens by what the processors call them; the first has the id `IMAGE`, the next ones follow. The code of Llama 4 and
# Gemma 4 names those with bars.
TOKENS = {
    "image_token": "<|patch|>",
    "video_token": "<|video|>",
    "vision_start_token": "<|image_start|>",
    "vision_end_token": "<|image_end|>",
    "boi_token": "<|image|>",
    "eoi_token": "<eoi>",
    "audio_token": "<|tile_x_separator|>",
    "boa_token": "<|tile_y_separator|>",
    "eoa_token": "<eoa>",
}
IMAGE_TOKEN, BEGIN = TOKENS["image_token"], TOKENS["boi_token"]
# vLLM asks the vocabulary of Gemma 3 for them.
NEWLINES = ["\n" * count for count in (1, 2, 3, 4)]
SQUARE = {"size": {"height": 8, "width": 8}}
QWEN_IMAGE = {
    "patch_size": 4,
    "temporal_patch_size": 1,
    "merge_size": 2,
    "size": {"shortest_edge": 64, "longest_edge": 4096},
}
MEAN = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# (height, width) of an image.
SIZES = {"mistral3": (16, 8), "ministral3": (16, 8), "mistral4": (16, 8)}


def placeholder(name: str) -> str:
    """What stands for an image in a prompt."""
    if "qwen" in name:
        return f"{TOKENS['vision_start_token']}{IMAGE_TOKEN}{TOKENS['vision_end_token']}"
    return BEGIN if name in ("gemma3", "llama4") else IMAGE_TOKEN


def image_tokenizer():
    """Bytes as in `make_tokenizer`, and from id `IMAGE` on the tokens of `TOKENS`."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(NEWLINES)
    unused = [f"<unused{index}>" for index in range(len(tokenizer), IMAGE)]
    tokenizer.add_tokens([AddedToken(token, special=True) for token in (*unused, *TOKENS.values())])
    special = {"eos_token": "<eos>", "bos_token": "<bos>", "pad_token": "<eos>", "extra_special_tokens": TOKENS}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **special)


def image_of(height: int, width: int) -> Image.Image:
    """An image whose pixels have many colours."""
    image = Image.new("RGB", (width, height))
    image.putdata([(x * 29 % 256, y * 31 % 256, (x * y * 7 + 40) % 256) for y in range(height) for x in range(width)])
    return image


def write_processor(folder, name: str) -> None:
    """The files of the processor of a tiny wrapper, with its tokenizer."""
    make_processor(WRAPPED[name].architecture, image_tokenizer()).save_pretrained(folder)


def make_processor(architecture: str, tokenizer):
    match architecture.removesuffix("ForConditionalGeneration"):
        case "Gemma3":
            image = transformers.Gemma3ImageProcessor(**SQUARE, **MEAN, do_pan_and_scan=False)
            return transformers.Gemma3Processor(image, tokenizer, image_seq_length=4)
        case "Mistral3":
            image = transformers.PixtralImageProcessor(
                size={"longest_edge": 16}, patch_size={"height": 4, "width": 4}, **MEAN
            )
            named = {"image_token": IMAGE_TOKEN, "image_break_token": BEGIN, "image_end_token": TOKENS["eoi_token"]}
            return transformers.PixtralProcessor(image, tokenizer, patch_size=4, spatial_merge_size=2, **named)
        case "Qwen2_5_VL":
            image = transformers.Qwen2VLImageProcessor(**QWEN_IMAGE)
            return transformers.Qwen2_5_VLProcessor(image, tokenizer, transformers.Qwen2VLVideoProcessor())
        case "Qwen3VL" | "Qwen3_5" | "Qwen3_5Moe":
            image = transformers.Qwen2VLImageProcessor(**QWEN_IMAGE)
            return transformers.Qwen3VLProcessor(image, tokenizer, transformers.Qwen3VLVideoProcessor())
        case "Llama4":
            image = transformers.Llama4ImageProcessor(**SQUARE, **MEAN, max_patches=1)
            return transformers.Llama4Processor(image, tokenizer, patch_size=4, pixel_shuffle_ratio=0.5)
        case "Gemma4":
            image = transformers.Gemma4ImageProcessor(patch_size=4, pooling_kernel_size=2, max_soft_tokens=70)
            video = transformers.Gemma4VideoProcessor(patch_size=4, pooling_kernel_size=2, max_soft_tokens=70)
            return transformers.Gemma4Processor(transformers.Gemma4AudioFeatureExtractor(), image, tokenizer, video)
    raise ValueError(architecture)
