"""What an importer is."""

from collections.abc import Sequence

from tadscale.config import Config
from tadscale.data.importers.collected import Collected


class Importer(Config):
    """Reads the annotation files of one public data set in the form in which they were published.

    A data set has a subclass in a file of its own: its settings, its `name`, and `read`. The first line of its docstring
    is its line in `tadscale data import --help`. `tadscale.data.importers` lists them.
    """

    def read(self, files: Sequence[str]) -> Collected:
        """Understand the files, correct nothing.

        Args:
            files: paths or URLs of all files that may belong to the data set; others among them are passed over.

        Raises:
            UserError: none of the files is of the data set, or a line or entry is damaged; says which.
            StorageError: a file cannot be read.
        """
        raise NotImplementedError
