"""The errors a user can cause and mend; everything else keeps its traceback."""


class DropRayError(Exception):
    """Base of the errors that are reported without a traceback; `exit_code` is the command line's."""

    exit_code = 1


class UserError(DropRayError):
    """Bad input, found before work starts: the message names the field or file and the remedy."""

    exit_code = 2


class CorruptArtifactError(DropRayError):
    """An artifact whose record or outputs do not match what was committed; it names the artifact and the file."""


class ExportRefusedError(DropRayError):
    """An export that is not the model it was made of, or that cannot be read: says what differs, and by how much."""


class NotFiniteError(DropRayError):
    """NaN or infinity in weights, states or results, by which nothing may be ranked: says where, and the remedy."""


class WorkerFailedError(DropRayError):
    """A unit of work failed in the application's own code, or lost its workers too often: says which, and where."""


class HubError(DropRayError):
    """The Hugging Face hub refused something, or could not be reached; it says the remedy."""


class StoreOutageError(DropRayError, OSError):
    """A store or model on S3 was out of reach for longer than `execution.store_outage_s`."""


class StoreRefusedError(DropRayError, OSError):
    """A store did not carry out an operation, and would not if it were repeated; it names the file and the remedy."""
