"""The export formats, in a file that the command line can import without torch."""

from typing import Literal, get_args

# `dropped` is a model type of its own, without the dropped tensors. `plain` is the family's own with fewer layers, for
# plans that drop whole blocks. `llm-drop` has all tensors and the two drop lists, as the code of arXiv 2406.15786.
# `config-only` is the same without the weights. `nemotron-nas` states what each layer has: vLLM serves it by itself.
ExportFormat = Literal["dropped", "plain", "llm-drop", "config-only", "nemotron-nas"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
