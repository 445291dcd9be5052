"""A logger for the log file of a run alone: what it says, a terminal shows in another way, or not at all."""

import logging

LOG_FILE_ONLY = logging.getLogger("drop_ray.file_only")
LOG_FILE_ONLY.propagate = False
LOG_FILE_ONLY.setLevel(logging.INFO)
LOG_FILE_ONLY.addHandler(logging.NullHandler())
