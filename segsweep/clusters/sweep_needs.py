"""What a sweep's trials read besides its own folder, as every node must hold it. Imports mmengine."""

from collections.abc import Iterator, Mapping
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
    return with_modules(Needs(files, published, sweep.weights), sweep.config.custom_imports, sweep.folder)


def files_of_role(name: str, role: RoleData) -> Iterator[Files]:
    """Yields a role's images, then its label maps if it has any; annotations lie in the sweep's own folder."""
    yield files_at(f"the images of {name}", role.images, role.names)
    if isinstance(role.truth, SemanticDataset) and role.labels is not None:
        maps = (str(image.label_path.relative_to(role.labels)) for image in role.truth.images)
        yield files_at(f"the label maps of {name}", role.labels, maps)
