"""Models that answer the damage gates by a rule, so that what a gate says of them is known beforehand."""

import math

from drop_ray.evaluation.tokens.token_model import Likelihood, TokenCounts


class RuleModel:
    """Gives a target the log-likelihood that `rule(context, target)` returns, and generates `text(prompt)`."""

    def __init__(self, rule=lambda context, target: 0.0, text=lambda prompt: (), max_length=10_000):
        self.rule, self.text, self.max_length = rule, text, max_length
        self.counts = TokenCounts()
        self.asked = []

    def likelihoods(self, requests):
        self.asked += requests
        totals = [self.rule(request.context, request.target) for request in requests]
        return [Likelihood(total, total > -1) for total in totals]

    def generate(self, prompts, max_tokens, stop=()):
        return [tuple(self.text(prompt))[:max_tokens] for prompt in prompts]


def look_up(context, target):
    """Likely if the target stands in the context: what recall of one fact, and copying, come down to."""
    size = len(target)
    return 0.0 if any(context[at : at + size] == target for at in range(len(context) - size + 1)) else -50.0


def not_finite(context, target):
    return math.nan
