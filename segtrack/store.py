"""Where the MLflow store is: resolving its address, and one client to it.

Only segtrack imports mlflow. Imports segdata.errors.
"""

from pathlib import Path

from segdata.errors import InputError

__all__ = ["SQLITE", "artifact_location", "resolve_uri"]

SQLITE = "sqlite:///"
SERVERS = ("http://", "https://", "postgresql", "mysql", "databricks")


def resolve_uri(uri: str, folder: Path, *, where: str = "tracking.uri") -> str:
    """Returns the store's address with a relative path resolved against `folder` (that of the sweep file).

    Raises:
        InputError: The address is of no kind that MLflow keeps runs in.
    """
    if uri.startswith(SQLITE):
        return f"{SQLITE}{(folder / uri.removeprefix(SQLITE)).resolve()}"
    if uri.startswith(SERVERS):
        return uri
    raise InputError.of(
        f"expected sqlite:///FILE or the address of an MLflow server, but got {uri!r}",
        where=where,
        cure="Leave the key out for sqlite:///mlflow.db beside the sweep file.",
    )


def artifact_location(uri: str, experiment: str) -> str | None:
    """Returns where artifacts of a file store go: beside the database. A server decides for itself (None)."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts" / experiment).as_uri()
