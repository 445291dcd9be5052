"""What a library's error says, in one line of bounded length."""

LONGEST = 300


def in_a_line(error: BaseException) -> str:
    """The error's text; its type where it has none, and before a text that is a mere name (KeyError)."""
    text = " ".join(str(error).split())[:LONGEST]
    return f"{type(error).__name__}: {text}" if not text or isinstance(error, LookupError) else text
