"""`greedy`: drops one at a time, that without which the model is best; then what is left is measured again."""

from drop_ray.planning.modules import Module
from drop_ray.planning.strategies.search import Modules, Round, Search, Steps, Task


class Greedy(Search):
    """Each round measures the model so far, and it without some candidates; the best of these is dropped.

    Where values are equal, the deeper layer goes first, and within a layer the attention before the MLP. The first
    round measures all candidates. What each adds to the value of the model so far is its growth, which ranks it, low
    first. Each later round measures the first `width` of the ranking, all with a width of None, and ranks them anew;
    the others keep the growth of the round that measured them last. Dropping makes most of the others cost more, so
    that those with an old growth come to the front in time: a lazy greedy search (Minoux 1978).
    """

    def search(self, task: Task) -> Steps:
        """`task.count` modules in the order in which they are dropped: a larger drop begins with every smaller one."""
        dropped: Modules = ()
        growth = dict.fromkeys(task.candidates, 0.0)
        for number in range(task.count):
            ranking = sorted(growth, key=lambda module: (growth[module], *_last_first(module)))
            measured = ranking if number == 0 else ranking[: task.width]
            found = yield Round(dropped, ((), *((module,) for module in measured)))
            values = {module: found[(module,)] for module in measured}
            growth |= {module: value - found[()] for module, value in values.items()}
            best = min(measured, key=lambda module: (values[module], *_last_first(module)))
            del growth[best]
            dropped = (*dropped, best)
        return dropped


def _last_first(module: Module) -> tuple[int, str]:
    return -module.layer, module.kind


GREEDY = Greedy(of=None, has_width=True)
