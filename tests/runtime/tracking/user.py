"""What a server with users (`basic-auth`, NO_PERMISSIONS) answers to one who is no administrator."""

from typing import Any


class User:
    """A client who may use what was made through it, and sees nothing else: not even that it is not there.

    Args:
        client: of the store; the administrator's.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._own: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        def call(what: str = "", *arguments: Any, **more: Any) -> Any:
            if name.startswith("create_"):
                made = getattr(self.client, name)(what, *arguments, **more)
                self._own |= {what, made if isinstance(made, str) else what}
                return made
            if name == "get_experiment_by_name" and self.client.get_experiment_by_name(what) is None:
                return None
            if not name.startswith("search_") and what not in self._own:
                from mlflow.exceptions import MlflowException
                from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

                raise MlflowException("Permission denied", PERMISSION_DENIED)
            return getattr(self.client, name)(*filter(None, [what]), *arguments, **more)

        return call
