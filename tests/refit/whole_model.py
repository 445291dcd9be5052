"""The same refit by other means: the whole model in memory, in float64, by transformers' own modules and plain solves.

Written apart from drop_ray.refit: it knows the families by their modules, forms each normal equation at once from all
tokens, and computes the next state from the new weight.
"""

import torch

from drop_ray.models.families import DropLists

EPSILON = {"Olmo2ForCausalLM": "variance_epsilon", "Gemma2ForCausalLM": "eps"}


class WholeModel:
    """A model of transformers, sub-layer by sub-layer."""

    def __init__(self, model, architecture):
        self.model, self.architecture = model, architecture
        self.after = architecture in ("Olmo2ForCausalLM", "Gemma2ForCausalLM")
        self.before = architecture != "Olmo2ForCausalLM"
        self.layers = model.model.layers

    def embed(self, tokens):
        """The state before layer 0, and what every attention is told, by a stop in the model's own forward."""
        seen = {}

        def stop(index):
            def hook(module, arguments, keywords):
                seen.setdefault("state", arguments[0])
                seen[index] = keywords

            return hook

        hooks = [layer.register_forward_pre_hook(stop(i), with_kwargs=True) for i, layer in enumerate(self.layers)]
        self.model(tokens, use_cache=False)
        for hook in hooks:
            hook.remove()
        self.keywords = seen
        return seen["state"]

    def parts(self, number, state):
        """(projection, its input, what it gives, the norm after it or None, the update) of a sub-layer."""
        layer, is_mlp = self.layers[number // 2], number % 2
        seen = []
        owner = layer.mlp if is_mlp else layer.self_attn
        projection = getattr(owner, "down_proj" if is_mlp else "o_proj", None)
        norm = None
        if self.after:
            norm = layer.post_feedforward_layernorm if is_mlp else layer.post_attention_layernorm
        inner = state
        if self.before:
            name = {(0, False): "input_layernorm", (1, False): "post_attention_layernorm"}.get((is_mlp, self.after))
            name = name or ("pre_feedforward_layernorm" if is_mlp else "input_layernorm")
            inner = getattr(layer, name)(state)
        hook = projection.register_forward_pre_hook(lambda _, given: seen.append(given[0])) if projection else None
        given = owner(inner) if is_mlp else owner(inner, **self.keywords[number // 2])[0]
        if hook:
            hook.remove()
        return projection, seen[0] if seen else None, given, norm, given if norm is None else norm(given)

    def epsilon(self, norm):
        return getattr(norm, EPSILON[self.architecture])

    def gain(self, norm):
        return 1 + norm.weight if self.architecture == "Gemma2ForCausalLM" else norm.weight


@torch.no_grad()
def refit(base, model, architecture, drops: DropLists, tokens, ridge, dtype=torch.float32):
    """New values of the projections of `model`, by their names; base and model: two loads of the same weights."""
    target, whole = WholeModel(base, architecture), WholeModel(model, architecture)
    gone = {2 * layer for layer in drops.attn} | {2 * layer + 1 for layer in drops.mlp}
    state = target.embed(tokens)
    whole.embed(tokens)
    states = [state]
    for number in range(2 * len(target.layers)):
        states.append(states[-1] + target.parts(number, states[-1])[4])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for number in range(2 * len(target.layers)):
        if number in gone:
            continue
        goal = next(place for place in range(number + 1, len(states)) if place not in gone)
        projection, a, given, norm, update = whole.parts(number, state)
        if projection is not None and goal > min(gone):
            r, a = (states[goal] - state - update).flatten(0, 1).double(), a.flatten(0, 1).double()
            if norm is not None:
                a, r = (
                    a / (given.flatten(0, 1).pow(2).mean(-1, keepdim=True) + whole.epsilon(norm)).sqrt(),
                    r / whole.gain(norm),
                )
            mean_a, mean_r = a.new_zeros(a.shape[1]), r.new_zeros(r.shape[1])
            if projection.bias is not None:
                mean_a, mean_r = a.mean(0), r.mean(0)
            a, r = a - mean_a, r - mean_r
            gram = a.T @ a
            change = torch.linalg.inv(gram + ridge * gram.diagonal().mean() * torch.eye(len(gram))) @ (a.T @ r)
            # A checkpoint's weights have its own dtype, and so have those that the next sub-layers see.
            projection.weight.copy_((projection.weight + change.T).to(dtype))
            found[names[id(projection.weight)]] = projection.weight
            if projection.bias is not None:
                projection.bias.copy_((projection.bias + mean_r - mean_a @ change).to(dtype))
                found[names[id(projection.bias)]] = projection.bias
            update = whole.parts(number, state)[4]
        state = state + update
    return found
