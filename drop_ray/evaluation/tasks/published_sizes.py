"""Sizes of the paper's nine tasks, for a forecast where their data is not at hand. No number of a result comes from it.

Documents are those of the split that lm-eval evaluates. Token lengths are means with the tokenizer of Llama 3, to about
20 %: they are given as a question, an answer choice and a few-shot example of the task, in lm-eval's own wording.
"""

from dataclasses import dataclass

from drop_ray.evaluation.tasks.volume import TaskVolume


@dataclass(frozen=True)
class TaskSize:
    """The size of a task as it is published."""

    documents: int
    """Documents of the evaluated split."""
    question: int
    """Mean tokens of a prompt without examples."""
    choices: int
    """Requests of a document."""
    choice: int
    """Mean tokens of an answer."""
    example: int
    """Mean tokens of a few-shot example with its answer."""
    subjects: int = 1
    """Tasks of the group, each with examples of its own."""
    fixed_examples: bool = False
    """Whether all documents of a subject have the same examples."""
    varied: int = 0
    """Tokens at the end of the question in which the requests of a document differ, where their targets are equal."""
    generated: int = 0
    """Mean tokens that are generated; the answer is then not given."""

    def volume(self, num_fewshot: int, limit: int | None, block: int) -> TaskVolume:
        """The volume with that many examples, of the first `limit` documents of each subject."""
        documents = self.documents if limit is None else min(self.documents, limit * self.subjects)
        shots, requests = num_fewshot * self.example, self.choices * documents
        context, answer = shots + self.question, self.choice * (not self.generated)
        inside = max(0, answer - 1)  # the last token of an answer is not computed
        # What a document computes besides the examples, where its requests share what they begin with.
        own = self.question - self.varied + self.choices * (self.varied + inside)
        alike = self.subjects if self.fixed_examples else documents
        shared = documents * own + shots * alike
        # An engine computes an answer's last token too, and, since it keeps whole blocks, half a block after a prefix.
        again = min(block // 2, context - self.varied)
        cached = shared + requests * bool(answer) + (requests - alike) * again
        return TaskVolume(
            documents=documents,
            requests=requests,
            asked=requests * (context + answer),
            alone=documents * (self.choices if inside or self.varied else 1) * (context + inside),
            shared=shared,
            cached=min(cached, requests * (context + answer)),
            generated=documents * self.generated,
            basis="published",
        )


# Clark et al. 2019 (BoolQ, validation), Wang et al. 2019 (RTE, validation), Mihaylov et al. 2018 (test), Bisk et al.
# 2020 (validation), Hendrycks et al. 2021 (test, 57 subjects), Sakaguchi et al. 2020 (XL, validation), Cobbe et al.
# 2021 (test), Zellers et al. 2019 (validation), Clark et al. 2018 (challenge, test).
PUBLISHED = {
    "boolq": TaskSize(documents=3270, question=145, choices=2, choice=1, example=146),
    "rte": TaskSize(documents=277, question=85, choices=2, choice=1, example=86),
    "openbookqa": TaskSize(documents=500, question=14, choices=4, choice=4, example=18),
    "piqa": TaskSize(documents=1838, question=14, choices=2, choice=22, example=36),
    "mmlu": TaskSize(documents=14042, question=110, choices=4, choice=1, example=114, subjects=57, fixed_examples=True),
    "winogrande": TaskSize(documents=1267, question=22, choices=2, choice=6, example=28, varied=4),
    "gsm8k": TaskSize(documents=1319, question=75, choices=1, choice=0, example=175, generated=130),
    "hellaswag": TaskSize(documents=10042, question=82, choices=4, choice=32, example=114),
    "arc_challenge": TaskSize(documents=1172, question=31, choices=4, choice=6, example=37),
}
