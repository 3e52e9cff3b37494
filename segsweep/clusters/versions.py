"""Which software a node runs, and the refusal of nodes that run another. Imports the standard library only."""

from collections.abc import Callable, Mapping

from segdata.errors import InputError

__all__ = ["SOURCES", "refuse_other_versions", "version_question"]

Versions = Mapping[str, str]  # what -> its version, "" if it is not there

SOURCES = "segsweep's source files"
PACKAGES = ("segdata", "segtrack", "segscore", "search_spaces", "trainables", "ensembling", "segsweep")
# What a trial's scores depend on, or what two nodes talk by; several names are those of one thing's distributions.
DISTRIBUTIONS = (
    ("segsweep",),
    ("ray",),
    ("torch",),
    ("torchvision",),
    ("numpy",),
    ("onedl-mmcv", "mmcv"),
    ("onedl-mmengine", "mmengine"),
    ("onedl-mmdetection", "mmdet"),
    ("onedl-mmsegmentation", "mmsegmentation"),
)
CURE = (
    "Set all nodes up from one image, or from one checkout (`make setup`) at the same path, and start Ray there anew."
)


def version_question() -> Callable[[], dict[str, str]]:
    """Returns a function that finds out the versions of the Python that calls it, and imports nothing big.

    It travels to a node by value: there our packages may be others, or none. A build tag (`2.11.0+cpu`) is left out:
    a head without a GPU may hold another build of the same torch. Sources are the first digits of a SHA-256 over all
    files of our packages, since two checkouts of one version may differ.
    """
    distributions, packages, sources = DISTRIBUTIONS, PACKAGES, SOURCES

    def versions() -> dict[str, str]:
        import hashlib
        import platform
        from importlib import metadata, util
        from pathlib import Path

        found = {"python": platform.python_version()}
        for names in distributions:
            known = [metadata.distribution(name).version for name in names if list(metadata.distributions(name=name))]
            found[names[0]] = known[0].partition("+")[0] if known else ""
        digest = hashlib.sha256()
        for package in packages:
            spec = util.find_spec(package)
            for folder in spec.submodule_search_locations or () if spec is not None else ():
                for path in sorted(
                    path for path in Path(folder).rglob("*") if path.suffix in (".py", ".yaml", ".json")
                ):
                    digest.update(f"{package}/{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
        return found | {sources: digest.hexdigest()[:12]}

    return versions


def refuse_other_versions(ours: Versions, theirs: Mapping[str, Versions]) -> None:
    """Raises InputError that names each node whose software is not ours, and what differs.

    Args:
        ours: Of the driver.
        theirs: Of the nodes, by name.
    """
    differing = {node: differences(ours, versions) for node, versions in theirs.items()}
    told = [f"node {node} has {', '.join(found)}" for node, found in differing.items() if found]
    if told:
        raise InputError.of(
            f"expected the driver's versions on all nodes, but {'; '.join(told)}", where="--address", cure=CURE
        )


def differences(ours: Versions, theirs: Versions) -> list[str]:
    """Returns what differs, in words; sources only if the versions say nothing."""
    told = [
        f"{what} {theirs.get(what) or 'none'} (here {version or 'none'})"
        for what, version in ours.items()
        if what != SOURCES and theirs.get(what, "") != version
    ]
    if not told and theirs.get(SOURCES) != ours[SOURCES]:
        told = [
            f"other source files of segsweep {theirs.get('segsweep')} (digest {theirs.get(SOURCES)}, here "
            f"{ours[SOURCES]})"
        ]
    return told
