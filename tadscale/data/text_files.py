"""Small text files that may not be there yet."""

from tadscale.data.storage import StorageError, read_bytes


def read_text(url: str) -> str:
    """The text of a file, empty if there is none. Raises `StorageError` if the storage cannot be reached."""
    try:
        return read_bytes(url).decode()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ""
        raise
