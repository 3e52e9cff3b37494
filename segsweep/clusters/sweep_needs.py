"""What a sweep's trials read besides its own folder, as every node must hold it. Imports mmengine."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from search_spaces.models import is_checkpoint_file
from segdata.labelmaps import SemanticDataset
from segsweep.clusters.needs import Files, Needs, files_at, with_modules
from segsweep.data_roles import RoleData, SweepRoles
from segsweep.initial_weights import model_choices, needed_files
from segsweep.sweep_file import Sweep
from trainables.initial_parts import weights_folder

__all__ = ["sweep_needs"]


def sweep_needs(sweep: Sweep, roles: SweepRoles, local: Mapping[str, Path]) -> Needs:
    """Returns images and label maps of all roles, initial weights and the user's modules, all of which are here.

    What was fetched from a URL lies on this machine only; each node fetches it for itself.

    Args:
        sweep: The sweep.
        roles: Its data.
        local: What `init: sweep:NAME` stands for; copies of it lie in the sweep's own folder.
    """
    files = [file for name, role in roles.roles.items() for file in files_of_role(name, role)]
    for init in sorted({choice.init for choice in model_choices(sweep.space)} - set(local)):
        if is_checkpoint_file(init):
            path = sweep.folder / Path(init).expanduser()
            files.append(files_at(f"init {init}", path.parent, [path.name]))
    folder = weights_folder(sweep.weights)
    published = files_at("published weights", folder, needed_files(sweep, local)).sizes
    remote = {url: name for role in roles.roles.values() for url, name in remote_of_role(role)}
    needs = Needs(files, published, sweep.weights, remote=remote)
    return with_modules(needs, sweep.config.custom_imports, sweep.folder)


def files_of_role(name: str, role: RoleData) -> Iterator[Files]:
    """Yields a role's images, then its label maps if it has any; annotations lie in the sweep's own folder."""
    for what, folder, names in folders_of_role(role):
        if folder not in role.remote:
            yield files_at(f"the {what} of {name}", folder, names)


def remote_of_role(role: RoleData) -> Iterator[tuple[str, str]]:
    """Yields the URLs that a role's files were fetched from, each with the name of a file there."""
    for _, folder, names in folders_of_role(role):
        if folder in role.remote:
            yield role.remote[folder], names[0]


def folders_of_role(role: RoleData) -> Iterator[tuple[str, Path, Sequence[str]]]:
    """Yields what a role's folders hold, where they lie, and the names of the role's files there."""
    yield "images", role.images, role.names
    if isinstance(role.truth, SemanticDataset) and role.labels is not None:
        yield "label maps", role.labels, [str(image.label_path.relative_to(role.labels)) for image in role.truth.images]
