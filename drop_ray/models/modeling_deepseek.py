"""DeepSeek v1, the mixture of experts that transformers lacks (`DeepseekForCausalLM`: deepseek-moe-16b).

It has Llama's decoder. From layer `first_k_dense_replace` on, the MLP is shared experts, which see every token, plus
the `num_experts_per_tok` routed experts of the highest softmax score (DeepSeekMoE, arXiv 2401.06066, section 3). The
experts are those of DeepSeek-V2, so that the checkpoint's own tensor names load.

In a checkpoint this file lies beside modeling_dropped.py, and like it needs nothing but torch and transformers.
"""

from torch import nn
from transformers import LlamaForCausalLM, LlamaModel, LlamaPreTrainedModel, initialization
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.models.deepseek_v2.modeling_deepseek_v2 import (
    DeepseekV2Experts,
    DeepseekV2Moe,
    DeepseekV2TopkRouter,
)

from .configuration_deepseek import DeepseekConfig
from .modeling_dropped import dropped_class


class DeepseekRouter(DeepseekV2TopkRouter):
    def __init__(self, config):
        super().__init__(config)
        self.normalizes = config.norm_topk_prob and config.num_experts_per_tok > 1

    def forward(self, hidden_states):
        logits, weights, indices = super().forward(hidden_states)
        if self.normalizes:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return logits, weights, indices


class DeepseekMoe(DeepseekV2Moe):
    def __init__(self, config):
        super().__init__(config)
        self.gate = DeepseekRouter(config)


class DeepseekPreTrainedModel(LlamaPreTrainedModel):
    config_class = DeepseekConfig

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, DeepseekV2TopkRouter):
            initialization.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, DeepseekV2Experts):
            initialization.normal_(module.gate_up_proj, std=self.config.initializer_range)
            initialization.normal_(module.down_proj, std=self.config.initializer_range)


class DeepseekModel(DeepseekPreTrainedModel, LlamaModel):
    def __init__(self, config):
        super().__init__(config)
        for index, layer in enumerate(self.layers):
            if config.has_experts(index):
                layer.mlp = DeepseekMoe(config)
        self.post_init()


class DeepseekForCausalLM(DeepseekPreTrainedModel, LlamaForCausalLM):
    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)
        self.model = DeepseekModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


# As in Qwen2-MoE and DeepSeek-V2, each expert has a tensor of its own in the files, and the model has fused ones.
register_checkpoint_conversion_mapping(
    DeepseekConfig.model_type, get_checkpoint_conversion_mapping("qwen2_moe"), overwrite=True
)


def __getattr__(name):
    return dropped_class(name, __name__)
