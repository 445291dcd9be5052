"""Whether a model's output layer is its embedding (a tied head), decided as transformers does: by the weights.

config.json may say that the head is tied while the files hold a trained one of its own, as merges and fine-tunes do.
transformers then unties (`PreTrainedModel.tie_weights` while it loads); vLLM passes the stored head over, and a model
that is built without weights ties. So a checkpoint gets the right `tie_word_embeddings` when it is opened, and all who
read its configuration or copy it have one model.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from drop_ray.errors import UserError
from drop_ray.models.classes import base_config_class
from drop_ray.models.families import base_name
from drop_ray.models.files.stored_tensors import Shard

HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"
TIED = "tie_word_embeddings"

logger = logging.getLogger(__name__)


def settle_head(config: Mapping[str, Any], shards: Sequence[Shard], location: str) -> dict[str, Any]:
    """The fields of config.json, with `tie_word_embeddings: false` if the files hold a head unlike the embedding.

    Both are read if config.json says that they are one and the files have both.
    """
    stored = {name: shard for shard in shards for name in shard.tensors}
    heads, embeddings = ([name for name in stored if name.endswith(ending)] for ending in (HEAD, EMBEDDING))
    if len(heads) != 1 or len(embeddings) != 1 or not _says_tied(config):
        return dict(config)
    head, embedding = (stored[name].read([name])[name] for name in (heads[0], embeddings[0]))
    if head.dtype == embedding.dtype and torch.equal(head, embedding):
        return dict(config)
    logger.warning(
        "%s/config.json ties the output layer to the embedding, but the files hold another one, which is used: as in "
        "transformers, the model is not tied",
        location,
    )
    return {**config, TIED: False}


def _says_tied(config: Mapping[str, Any]) -> bool:
    """What config.json says, or else the default of the family's class."""
    if config.get(TIED) is not None:
        return bool(config[TIED])
    try:
        return bool(getattr(base_config_class(base_name(config, "")), TIED, False))
    except UserError:  # an architecture that is imported or refused where its name is looked at
        return False
