"""How the evaluation's questions reach an engine: sorted, in parts, each kind of completion together."""

from drop_ray.evaluation.tokens.token_model import Completion, Continuation
from drop_ray.serving import engine_tokens
from drop_ray.serving.engine import Completed, Score, Scores
from drop_ray.serving.engine_tokens import EngineTokens


class Engine:
    """Scores tell which question they are of. Completions repeat a prompt's last token."""

    def __init__(self):
        self.scored, self.completed = [], []

    def score(self, contexts, targets):
        self.scored.append(list(zip(contexts, targets, strict=True)))
        scores = tuple(Score(float(sum(context) * 100 + sum(target)), True) for context, target in self.scored[-1])
        return Scores(scores, computed=len(scores))

    def complete(self, prompts, completion):
        self.completed.append((prompts, completion))
        tokens = tuple((prompt[-1],) * most for prompt, most in zip(prompts, completion.max_tokens, strict=True))
        return Completed(tokens, tuple(prompt[-1] != 9 for prompt in prompts), computed=3)


def test_questions_with_equal_beginnings_are_neighbours_in_all_parts(monkeypatch):
    monkeypatch.setattr(engine_tokens, "SENT", 2)
    engine = Engine()
    tokens = EngineTokens(engine, 16)
    asked = [Continuation((3, 1), (1,)), Continuation((1, 2), (4, 5)), Continuation((3, 1), (0,))]

    found = tokens.likelihoods(asked)

    assert [answer.total for answer in found] == [401, 309, 400]
    assert engine.scored == [[((1, 2), (4, 5)), ((3, 1), (0,))], [((3, 1), (1,))]]
    assert (tokens.counts.asked, tokens.counts.computed) == (3 + 2 + 2, 3)


def test_texts_are_completed_by_kind_and_come_back_in_their_order():
    engine = Engine()
    tokens = EngineTokens(engine, 16)
    short, long = Completion(1, (7,), ("a",)), Completion(2, (), (), (("seed", 3), ("temperature", 0.5)))

    found = tokens.complete([(1, 2), (5,), (8, 9)], [short, long, short])

    assert [answer.tokens for answer in found] == [(2,), (5, 5), (9,)]
    assert [answer.is_finite for answer in found] == [True, True, False]
    assert [(prompts, how.stop_tokens, how.stop, how.sampling) for prompts, how in engine.completed] == [
        ([(1, 2), (8, 9)], (7,), ("a",), {}),
        ([(5,)], (), (), {"seed": 3, "temperature": 0.5}),
    ]
    assert (tokens.counts.asked, tokens.counts.computed) == (5 + 4, 6)


def test_tokens_alone_end_at_their_stops_only():
    engine = Engine()
    assert EngineTokens(engine, 16).generate([(4,)], 3, [5]) == [(4, 4, 4)]
    ((_, how),) = engine.completed
    assert (how.max_tokens, how.stop_tokens, how.stop, how.sampling) == ((3,), (5,), (), {})
