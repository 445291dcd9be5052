"""The tokens of a run's tasks, counted when they are first asked for: what an evaluation costs."""

from typing import TYPE_CHECKING, Any

from drop_ray.evaluation.tasks.volume import TaskVolume
from drop_ray.models.location import load_tokenizer
from drop_ray.serving.preflight import CPU_BLOCK

if TYPE_CHECKING:
    from drop_ray.job.job import Job

# Tokens of a block of vLLM's prefix cache on a GPU.
GPU_BLOCK = 16
PROMPTING = {"seed", "apply_chat_template", "system_instruction"}


class TaskVolumes:
    """The volume of each task of a run, by name; None of a task of which neither data nor published size is here."""

    def __init__(self, job: "Job"):
        self._job = job
        self._requests = {request.name: request for request in job.task_requests}
        self._found: dict[str, TaskVolume | None] = {}
        self._counter: Any = None

    def __getitem__(self, name: str) -> TaskVolume | None:
        if name not in self._found:
            self._found[name] = self._opened().count(self._requests[name])
        return self._found[name]

    @property
    def counted(self) -> dict[str, TaskVolume | None]:
        """Those that were asked for."""
        return self._found

    def _opened(self) -> Any:
        if self._counter is None:
            from drop_ray.evaluation.tasks.counting import Counter  # imports lm-eval

            job, evaluation = self._job, self._job.config.evaluation
            self._counter = Counter(
                load_tokenizer(job.checkpoint.folder),
                include_path=job.include_path,
                max_length=evaluation.max_length or job.size.max_positions,
                block=CPU_BLOCK if job.config.execution.device == "cpu" else GPU_BLOCK,
                **evaluation.model_dump(include=PROMPTING),
            )
        return self._counter
