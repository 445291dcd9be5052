"""The figures that He et al. published of their models, to compare runs with.

Source: He, Sun, Shen and Li, "What Matters in Transformers? Not All Attention is Needed", arXiv 2406.15786 (v6):
averages in points of 100, speedups to the base, and gamma in points per 1 % of speedup. Accuracies of single tasks are
not in here, nor which tasks each average is over.
"""

from dataclasses import dataclass

SOURCE = "He et al., arXiv 2406.15786 (v6)"


@dataclass(frozen=True)
class PaperTask:
    """How the paper evaluates one task."""

    name: str
    """As lm-eval calls it."""
    num_fewshot: int
    """Examples before each question."""
    metric: str | None = None
    """The metric, where it is stated."""


@dataclass(frozen=True)
class PaperFigures:
    """What is published of one plan, or of the base."""

    strategy: str
    """`base`, `attention`, `mlp` or `block`."""
    dropped: int
    """Attention layers, MLPs or blocks that are dropped."""
    average: float
    """Mean accuracy over tasks, in points."""
    speedup: float | None = None
    """To the base; none where it was not measured."""
    gamma: float | None = None
    """Points lost per 1 % of speedup."""
    num_tasks: int | None = None
    """Tasks of the average; none where it is not stated."""
    quantization: str | None = None
    """Method by which the weights were quantized."""

    @property
    def plan(self) -> str:
        """Its name as the project names plans and variants."""
        name = self.strategy if self.strategy == "base" else f"{self.strategy}-{self.dropped}"
        return f"{name}-{self.quantization}" if self.quantization else name


@dataclass(frozen=True)
class PaperModel:
    """A model of the paper."""

    name: str
    """As the paper calls it; `--model` takes it in any case."""
    num_layers: int
    """Decoder layers, as its checkpoint's config has them."""
    figures: tuple[PaperFigures, ...]
    """Of the base and of its plans."""
    drop_lists: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Strategy and layers in the order of dropping, where they are published."""
    note: str = ""
    """What is known to be wrong in the figures."""


TASKS = (
    PaperTask("boolq", 0),
    PaperTask("rte", 0),
    PaperTask("openbookqa", 0, "acc_norm"),
    PaperTask("piqa", 0, "acc_norm"),
    PaperTask("mmlu", 5),
    PaperTask("winogrande", 5),
    PaperTask("gsm8k", 5),
    PaperTask("hellaswag", 10, "acc_norm"),
    PaperTask("arc_challenge", 25, "acc_norm"),
)
"""The tasks of the paper; its averages are over some of them."""


def _plans(strategy: str, text: str, num_tasks: int | None = None) -> tuple[PaperFigures, ...]:
    """`dropped average speedup gamma`, plans divided by commas."""
    found = []
    for row in text.split(","):
        dropped, average, speedup, *gamma = map(float, row.split())
        lost = gamma[0] if gamma else None
        found.append(PaperFigures(strategy, int(dropped), average, speedup, lost, num_tasks))
    return tuple(found)


def _four_tasks(*averages: tuple[float, float]) -> tuple[PaperFigures, ...]:
    """Base, attention-4 and attention-8 of the table of quantization: averages in 16 bits and of AWQ in 4."""
    return tuple(
        PaperFigures("attention" if dropped else "base", dropped, average, num_tasks=4, quantization=how)
        for dropped, pair in zip((0, 4, 8), averages, strict=True)
        for how, average in zip((None, "awq"), pair, strict=True)
    )


MODELS = (
    PaperModel(
        "Llama-2-13B",
        40,
        (
            PaperFigures("base", 0, 68.2),
            *_plans("block", "4 65.8 1.11 .22, 8 60.7 1.24 .31"),
            *_plans("mlp", "4 66.9 1.04 .32, 8 61.9 1.08 .79"),
            *_plans("attention", "4 68.5 1.05 -.05, 8 68.1 1.13 .01, 16 66.1 1.29 .07, 20 64.9 1.40 .08"),
            *_four_tasks((66.2, 66.0), (66.1, 65.5), (66.2, 65.9)),
        ),
        (("block", (33, 32, 31, 34, 30, 35, 29, 28)),),
    ),
    PaperModel(
        "Mistral-7B",
        32,
        (
            PaperFigures("base", 0, 70.3),
            *_plans("block", "4 67.1 1.14 .23, 8 58.6 1.32 .37"),
            *_plans("mlp", "4 66.9 1.03 1.13, 8 53.4 1.06 2.82"),
            *_plans("attention", "4 69.9 1.10 .04, 8 69.8 1.23 .02, 12 67.3 1.40 .08"),
            *_four_tasks((66.8, 66.1), (66.6, 66.3), (66.4, 65.9)),
        ),
        (("attention", (25, 26, 24, 22)), ("mlp", (26, 27, 25, 24)), ("block", (26, 25, 24, 27))),
    ),
    PaperModel(
        "Llama-2-70B",
        80,
        (
            PaperFigures("base", 0, 73.9, num_tasks=8),
            *_plans("block", "4 71.0 1.07 .41, 8 67.7 1.14 .44, 16 54.4 1.30 .65, 32 49.3 1.67 .37", 8),
            *_plans("mlp", "4 73.2 1.04 .18, 8 72.5 1.05 .28, 16 65.9 1.08 1.00, 32 55.7 1.17 1.07", 8),
            *_plans("attention", "4 73.8 1.06 .02, 8 73.7 1.12 .02, 16 73.8 1.21 .00, 32 73.8 1.35 .00", 8),
            *_plans("attention", "40 71.5 1.48 .05, 48 66.9 1.62 .11", 8),
        ),
    ),
    PaperModel(
        "Llama-3-70B",
        80,
        (
            PaperFigures("base", 0, 75.1, num_tasks=4),
            *_plans("attention", "4 75.2 1.04 -.03, 8 75.1 1.10 .00, 16 75.0 1.17 .01, 32 75.2 1.35 .00", 4),
            *_plans("attention", "40 73.3 1.43 .00, 48 71.0 1.55 .07", 4),
        ),
        note="The gamma of attention-40 is misprinted as 0.00: its average and speedup give 0.04.",
    ),
    PaperModel(
        "Llama-3-8B",
        32,
        (
            PaperFigures("base", 0, 67.6, num_tasks=4),
            *_plans("attention", "4 67.4 1.07, 8 67.4 1.16, 12 65.8 1.26, 16 55.4 1.38, 20 38.6 1.52", 4),
        ),
    ),
)
"""The models whose figures are known here."""
