"""The exceptions of clara-search. Everything it raises on purpose is a `ClaraError`; this module imports nothing."""

LONGEST_MESSAGE = 2000
"""Characters of the message of an error; of a longer one, which quotes what somebody wrote, the middle is left out."""


class ClaraError(Exception):
    """Base of all errors that a caller can act on. Its message is one line: problem, input, remedy."""

    def __str__(self) -> str:
        """Return the message, whatever it quotes, on one line of at most `LONGEST_MESSAGE` characters."""
        message = super().__str__()
        if "\n" in message or "\r" in message:
            message = message.strip().replace("\n", "\\n").replace("\r", "\\r")
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[: LONGEST_MESSAGE * 3 // 4]} ... {message[-LONGEST_MESSAGE // 5 :]}"
        return message


class AudioError(ClaraError):
    """A recording that cannot be used: unreadable, empty, truncated, or not finite."""


class ConfigError(ClaraError):
    """A setting or an argument that is unknown, of the wrong type, out of bounds, or at odds with another one."""


class SourceError(ClaraError):
    """A source that is missing, empty, or cannot be listed or read."""


class FormatError(ClaraError):
    """A file whose content is broken, such as a manifest, a shard, a model folder or a checkpoint."""


class OutputError(ClaraError):
    """A file or folder that cannot be written, or that holds something else already."""


class MissingDependency(ClaraError):
    """An optional package that is not installed. The message holds the `pip` command that installs it."""


class UnknownModel(ClaraError):
    """A model name that is neither bundled, nor a folder, nor in the local hub cache."""


class DeviceError(ClaraError):
    """A device or a precision that this machine, or this model, does not have."""


class DatabaseError(ClaraError):
    """A database or table that is missing or cannot be opened."""


class EncoderMismatch(DatabaseError):
    """A table opened with another encoder than the one that built it."""


class QueryError(ClaraError):
    """A query that cannot be answered: empty, malformed filter, no labels."""


def first_line(error: BaseException) -> str:
    """Return the first line of the message of another library's `error`, or its class name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
