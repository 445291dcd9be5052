"""The configuration of DeepSeek v1 (deepseek-moe-16b), in a file of its own since the model takes seconds to import."""

from transformers import LlamaConfig

from .modeling_dropped import dropped_class


class DeepseekConfig(LlamaConfig):
    """config.json of deepseek-moe-16b-base. Fields of `DeepseekV2Moe` that version 1 lacks have version 1's values."""

    model_type = "deepseek"
    attribute_map = {"num_experts": "n_routed_experts"}  # noqa: RUF012 - as transformers has it

    vocab_size: int = 102400
    n_routed_experts: int | None = None
    n_shared_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int = 1407
    moe_layer_freq: int = 1
    first_k_dense_replace: int = 0
    norm_topk_prob: bool = False
    scoring_func: str = "softmax"
    routed_scaling_factor: float = 1.0
    topk_method: str = "greedy"
    n_group: int = 1
    topk_group: int = 1

    def has_experts(self, layer):
        return (
            self.n_routed_experts is not None
            and layer >= self.first_k_dense_replace
            and layer % self.moe_layer_freq == 0
        )


def __getattr__(name):
    return dropped_class(name, __name__)
