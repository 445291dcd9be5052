"""The configuration of `nemotron-nas` checkpoints, copied beside the weights: no library that serves them has it."""

from transformers import LlamaConfig


class _Fields(dict):
    """An object of config.json whose fields are attributes too, as vLLM reads them."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class DeciLMConfig(LlamaConfig):
    """A Llama of which each layer states what it has: `attention` and `ffn`, each with `no_op` where it is absent."""

    model_type = "nemotron-nas"

    block_configs: list | None = None

    def __post_init__(self, **kwargs):
        self.block_configs = [
            _Fields({name: _Fields(part) for name, part in block.items()}) for block in self.block_configs or ()
        ]
        super().__post_init__(**kwargs)
