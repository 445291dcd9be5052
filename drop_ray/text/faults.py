"""What a library's error says, in one line of bounded length: some have the whole of what they could not read."""

LONGEST = 300
# Of each of two errors, with its type.
LONGEST_OF_CHAIN = 600


def in_a_line(error: BaseException) -> str:
    """The error's text; its type where it has none, and before a text that is a mere name (KeyError)."""
    text = _words(error)[:LONGEST]
    return f"{type(error).__name__}: {text}" if not text or isinstance(error, LookupError) else text


def with_cause(error: BaseException) -> str:
    """An error in one line, with the one at the bottom of its chain, which a library may not mention."""
    bottom = error
    while (inner := bottom.__cause__ or (None if bottom.__suppress_context__ else bottom.__context__)) is not None:
        bottom = inner
    texts = [f"{type(each).__name__}: {_words(each)}"[:LONGEST_OF_CHAIN] for each in (error, bottom)]
    return texts[0] if bottom is error or str(bottom) in str(error) else f"{texts[0]}; caused by {texts[1]}"


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())
