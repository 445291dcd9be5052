"""`window`: the adjacent attention layers without which the model is best, of all that there are."""

from drop_ray.planning.strategies.search import Round, Search, Steps, Task


class Window(Search):
    def search(self, task: Task) -> Steps:
        starts = range(len(task.candidates) - task.count + 1)
        windows = tuple(task.candidates[start : start + task.count] for start in starts)
        found = yield Round(dropped=(), additions=windows)
        return min(windows, key=found.__getitem__)


WINDOW = Window(of="attention")
