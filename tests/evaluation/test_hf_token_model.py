"""Likelihoods with shared prefixes are those of whole sequences, for every family, with sub-layers dropped."""

import random
import threading

import pytest
import torch
from tiny_models import droppable, make_model

from drop_ray.errors import UserError
from drop_ray.evaluation.tokens import hf_token_model
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel
from drop_ray.evaluation.tokens.prefix_rows import group_rows
from drop_ray.evaluation.tokens.sharing import MaskMaker, why_not_shared
from drop_ray.evaluation.tokens.token_model import Continuation
from drop_ray.models.candidates import only
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.transformers_private import layer_types

LENGTH = 256


def requests():
    """A task whose examples are shared, one whose documents only share their contexts, and a text alone."""
    draw = random.Random(1)

    def tokens(count):
        return tuple(draw.randrange(3, 300) for _ in range(count))

    examples = tokens(60)
    asked = []
    for _ in range(9):
        context = examples + tokens(draw.randrange(5, 30))
        asked += [Continuation(context, tokens(draw.randrange(1, 5))) for _ in range(4)]
    for _ in range(5):
        context = tokens(draw.randrange(40, 130))
        asked += [Continuation(context, tokens(draw.randrange(1, 5))) for _ in range(3)]
    return [*asked, Continuation((1,), tokens(7)), asked[0]]


REQUESTS = requests()


def logits_of(model, request):
    """The log-likelihood and whether it is greedy, from one pass over the whole sequence in float64."""
    ids = torch.tensor([request.context + request.target])
    with torch.inference_mode():
        rows = model(ids[:, :-1], use_cache=False).logits[0, len(request.context) - 1 :].double().log_softmax(-1)
    target = torch.tensor(request.target)
    return float(rows.gather(-1, target[:, None]).sum()), bool((rows.argmax(-1) == target).all())


@pytest.fixture
def small_rows(monkeypatch):
    """Rows of at most 1.25 sequences, so that documents with common examples do not fit into one."""
    monkeypatch.setattr(
        hf_token_model, "group_rows", lambda asked, **sizes: group_rows(asked, **{"row_tokens": 100, **sizes})
    )


@pytest.mark.parametrize("drops", [DropLists(), DropLists((0, 2), (1,)), DropLists((0, 1, 2, 3), (0,))], ids=str)
def test_shared_prefixes_change_no_answer(family_folder, small_rows, drops, request):
    name = request.node.callspec.params["family_folder"]
    attention = "eager" if FAMILIES[name].needs_eager else "sdpa"
    model = load_model(family_folder, only(drops, droppable(name)), attn_implementation=attention)
    shared = HfTokenModel(model, batch_size=3, max_length=LENGTH)
    whole = HfTokenModel(model, batch_size=3, max_length=LENGTH, shares=False)

    found = shared.likelihoods(REQUESTS)

    # The state of linear attention does not fork where sequences part.
    assert shared.shares == ({*layer_types(model.config)} <= {"full_attention", "sliding_attention"})
    assert [answer.total for answer in found] == pytest.approx(
        [logits_of(model, each)[0] for each in REQUESTS], abs=2e-5
    )
    assert [answer.is_greedy for answer in found] == [logits_of(model, each)[1] for each in REQUESTS]
    plain = [answer.total for answer in whole.likelihoods(REQUESTS)]
    assert [answer.total for answer in found] == pytest.approx(plain, abs=2e-5)
    assert shared.counts.asked == whole.counts.asked
    if shared.shares:
        assert shared.counts.computed < 0.25 * whole.counts.asked


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


def test_answers_do_not_depend_on_order_streams_or_what_was_asked_before(model):
    one = HfTokenModel(model, batch_size=3, max_length=LENGTH)
    expected = one.likelihoods(REQUESTS)
    one.likelihoods(REQUESTS[:5])
    assert one.likelihoods(REQUESTS) == expected
    assert HfTokenModel(model, batch_size=3, max_length=LENGTH).likelihoods(REQUESTS[::-1]) == expected[::-1]
    assert HfTokenModel(model, batch_size=3, max_length=LENGTH, streams=3).likelihoods(REQUESTS) == expected


def test_as_many_batches_are_in_flight_as_streams(model):
    """Each batch waits in the model until all three are there."""
    meet = threading.Barrier(3, timeout=20)
    tokens = HfTokenModel(model, batch_size=4, max_length=LENGTH, shares=False, streams=3)
    asked = [Continuation((number, 4, 5), (number,)) for number in range(3, 15)]  # 12 sequences: three batches

    def arrive(*_):
        meet.wait()

    hook = model.register_forward_pre_hook(arrive)
    try:
        found = tokens.likelihoods(asked)
    finally:
        hook.remove()
    assert [answer.total for answer in found] == pytest.approx([logits_of(model, each)[0] for each in asked], abs=2e-5)


def test_generation_is_greedy_and_ends_after_a_stop(model):
    tokens = HfTokenModel(model, batch_size=2, max_length=LENGTH)
    prompts = [each.context for each in REQUESTS[::9]]

    def alone(prompt, count):
        ids = list(prompt)
        for _ in range(count):
            with torch.inference_mode():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        return tuple(ids[len(prompt) :])

    free = tokens.generate(prompts, 8)
    assert free == [alone(prompt, 8) for prompt in prompts]
    stop = free[0][3]
    stopped = tokens.generate(prompts, 8, [stop])
    assert stopped == [row[: row.index(stop) + 1] if stop in row else row for row in free]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attn_implementation": "flash_attention_2"}, "flash_attention_2 takes no mask"),
        ({"layer_types": ["linear_attention", *["full_attention"] * 3]}, "linear_attention"),
        ({"rope": "dynamic"}, "turns positions by the length"),
    ],
)
def test_models_that_cannot_share_are_named(change, reason):
    model = make_model().eval()
    if "attn_implementation" in change:
        model.config._attn_implementation = change["attn_implementation"]
    if "layer_types" in change:
        model.config.layer_types = change["layer_types"]
    if "rope" in change:
        model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 128}
    assert reason in why_not_shared(model, LENGTH)


def test_a_length_within_the_original_one_turns_positions_alike():
    model = make_model().eval()
    model.config.rope_parameters = {"rope_type": "longrope", "original_max_position_embeddings": 256}
    assert why_not_shared(model, 256) is None


def test_a_model_that_answers_otherwise_in_rows_is_refused(model, monkeypatch):
    """As one would whose positions or masks are not as given: here choices see each other."""
    make = MaskMaker.make
    monkeypatch.setattr(MaskMaker, "make", lambda self, at, ends, prefix: make(self, at, ends * 0 + 10_000, prefix))
    with pytest.raises(UserError, match=r"evaluation\.share_prefixes: .* nats per token on average; set it to false"):
        HfTokenModel(model, batch_size=3, max_length=LENGTH).likelihoods(REQUESTS)


def test_a_request_longer_than_the_model_is_an_error(model):
    with pytest.raises(ValueError, match="300 inputs, the model takes 256"):
        HfTokenModel(model, batch_size=3, max_length=LENGTH).likelihoods([Continuation((1,) * 300, (1,))])


def test_no_requests_have_no_answers(model):
    assert HfTokenModel(model, batch_size=3, max_length=LENGTH).likelihoods([]) == []
