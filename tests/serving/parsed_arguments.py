"""The program of test_given_arguments.py: what lists of arguments are to drop_ray, or why they are refused."""

import json
import sys
from pathlib import Path

from drop_ray.errors import UserError
from drop_ray.serving.given_arguments import given_arguments


def answer(arguments):
    try:
        return given_arguments(arguments)
    except UserError as error:
        return str(error)


request = json.loads(sys.argv[1])
Path(request["output"]).write_text(json.dumps([answer(arguments) for arguments in request["lists"]]))
