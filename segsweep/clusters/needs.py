"""What nodes must hold or reach besides the software: images, label maps, weights, the user's modules.

Names and sizes only: reading all bytes on all nodes would take as long as a trial. Imports fsspec for URLs.
"""

import importlib.machinery
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from segdata.file_sums import in_threads
from segdata.image_cache import size_of
from segdata.remote_folder import reading_problem

__all__ = ["Files", "Needs", "files_at", "problem_of", "with_modules"]


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one folder: what they are, where they lie, and the size in bytes of each by its name there."""

    what: str
    folder: Path
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a node must hold.

    Attributes:
        files: At the same paths on all nodes.
        published: Files of published weights; each node has a folder of its own for them.
        weights: That folder if the sweep file names one.
        modules: Python modules that are installed.
        remote: Folders at URLs, from which a node fetches files itself, each with a file to try.
    """

    files: Sequence[Files] = ()
    published: Mapping[str, int] = field(default_factory=dict)
    weights: Path | None = None
    modules: Sequence[str] = ()
    remote: Mapping[str, str] = field(default_factory=dict)


def files_at(what: str, folder: Path, names: Iterable[str]) -> Files:
    """Returns files that lie here, with their sizes.

    Raises:
        OSError: One is not here.
    """
    return Files(what, folder, {name: (folder / name).stat().st_size for name in names})


def with_modules(needs: Needs, names: Sequence[str], folder: Path) -> Needs:
    """Adds the user's modules: those in `folder` with all their files, others by name."""
    files, installed = list(needs.files), []
    for name in dict.fromkeys(name.partition(".")[0] for name in names):
        spec = importlib.machinery.PathFinder.find_spec(name, [str(folder)])
        places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
        if spec is None or not (places or spec.origin):
            installed.append(name)
            continue
        found = [path for place in places for path in sorted(place.rglob("*.py"))] or [Path(str(spec.origin))]
        files.append(files_at(f"custom_imports {name}", folder, (str(path.relative_to(folder)) for path in found)))
    return replace(needs, files=files, modules=installed)


def problem_of(needs: Needs) -> str | None:
    """Says what this machine lacks or can't reach of it: "expected X, but got Y"; None if it has all."""
    published = []
    if needs.published:
        from trainables.initial_parts import weights_folder  # loads mmengine, which a trial's actor does without

        published = [Files("published weights", weights_folder(needs.weights), needs.published)]
    for files in (*needs.files, *published):
        if (problem := problem_of_files(files)) is not None:
            return problem
    for name in needs.modules:
        if importlib.util.find_spec(name) is None:
            return f"expected the module {name} (custom_imports), but it is not installed"
    problems = (reading_problem(url, name) for url, name in needs.remote.items())
    return next((problem for problem in problems if problem is not None), None)


def problem_of_files(files: Files) -> str | None:
    """Says which files are missing or of another size."""
    found = dict(zip(files.sizes, in_threads(lambda name: size_of(files.folder / name), files.sizes), strict=True))
    missing = [name for name, size in found.items() if size is None]
    other = [
        f"{name} has {size} bytes, not {files.sizes[name]}"
        for name, size in found.items()
        if size is not None and size != files.sizes[name]
    ]
    count = "the file" if len(files.sizes) == 1 else f"the {len(files.sizes)} files"
    expected = f"expected {count} of {files.what} in {files.folder}"
    if missing:
        return f"{expected}, but {len(missing)} {'is' if len(missing) == 1 else 'are'} missing, such as {missing[0]}"
    if other:
        return f"{expected} as they are on the driver, but {len(other)} differ: {other[0]}"
    return None
