"""The errors a user can cause and mend; everything else keeps its traceback."""

# Of an error of a library in a message: some have the whole of what they could not read.
LONGEST = 600


class DropRayError(Exception):
    """Base of the errors that are reported without a traceback; `exit_code` is the command line's."""

    exit_code = 1


class UserError(DropRayError):
    """Bad input, found before work starts: the message names the field or file and the remedy."""

    exit_code = 2


class CorruptArtifactError(DropRayError):
    """An artifact whose record or outputs do not match what was committed; it names the artifact and the file."""


class NotFiniteError(DropRayError):
    """NaN or infinity in weights, states or results, by which nothing may be ranked: says where, and the remedy."""


class WorkerFailedError(DropRayError):
    """A unit of work failed in the application's own code, or lost its workers too often: says which, and where."""


class StoreOutageError(DropRayError, OSError):
    """A store or model on S3 was out of reach for longer than `execution.store_outage_s`."""


class StoreRefusedError(DropRayError, OSError):
    """A store did not carry out an operation, and would not if it were repeated; it names the file and the remedy."""


def with_cause(error: BaseException) -> str:
    """An error in one line, with the one at the bottom of its chain, which a library may not mention."""
    bottom = error
    while (inner := bottom.__cause__ or (None if bottom.__suppress_context__ else bottom.__context__)) is not None:
        bottom = inner
    texts = [f"{type(each).__name__}: {' '.join(str(each).split())}"[:LONGEST] for each in (error, bottom)]
    return texts[0] if bottom is error or str(bottom) in str(error) else f"{texts[0]}; caused by {texts[1]}"
