"""What is said of nodes that are not fit, from what they found; how they find it is in test_cluster.py."""

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from segdata.errors import InputError
from segsweep.clusters.needs import Files, Needs, files_at, problem_of, with_modules
from segsweep.clusters.node_checks import refuse_unfit, remarks
from segsweep.clusters.node_facts import NodeFacts, NodeQuestion, facts_here, gpu_memory_here, gpu_memory_in_reach
from segsweep.clusters.shared_storage import Seen, StorageProbe, look, storage_probe
from segsweep.clusters.versions import SOURCES, refuse_other_versions, version_question

PROBE = StorageProbe(Path("/runs/.probe-1"), "word")
FIT = NodeFacts(Seen("word", "own", 0.01), None, (), 1000.0)
OURS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.11.0", "segsweep": "0.1.0", SOURCES: "0123456789ab"}


def test_nodes_with_the_same_versions_pass() -> None:
    refuse_other_versions(OURS, {"a": dict(OURS), "b": dict(OURS)})


def test_each_node_with_other_versions_is_named() -> None:
    theirs = {
        "a": OURS | {"torch": "2.10.0", SOURCES: "ffff"},  # other sources say nothing new then
        "b": OURS,
        "c": OURS | {SOURCES: "ffff"},
        "d": OURS | {"segsweep": ""},
    }
    message = (
        r"--address: expected the driver's versions on all nodes, but node a has torch 2.10.0 \(here 2.11.0\); "
        r"node c has other source files of segsweep 0.1.0 \(digest ffff, here 0123456789ab\); "
        r"node d has segsweep none \(here 0.1.0\)\. Set all nodes up"
    )
    with pytest.raises(InputError, match=message):
        refuse_other_versions(OURS, theirs)


def test_versions_are_those_of_the_python_that_is_asked() -> None:
    import ray
    import torch

    found = version_question()()
    assert found["ray"] == ray.__version__ and found["torch"] == torch.__version__.partition("+")[0]
    assert all(found.values()) and len(found[SOURCES]) == 12


def test_another_source_file_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for text in ("A = 1\n", "A = 2\n", "A = 1\n"):
        (tmp_path / "segsweep").mkdir(exist_ok=True)
        (tmp_path / "segsweep" / "__init__.py").write_text(text)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            patch.delitem(__import__("sys").modules, "segsweep")
            digests.append(version_question()()[SOURCES])
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize(
    ("facts", "returned", "message"),
    [
        (
            replace(FIT, seen=Seen("")),
            False,
            r"^/runs: expected a folder that all nodes share, but node b does not see what the driver writes there\. "
            "Mount the same file system",
        ),
        (replace(FIT, seen=Seen("other")), True, "node b does not see what the driver writes there"),
        (replace(FIT, seen=Seen("word", problem="Permission denied")), False, "b cannot write there: Permission den"),
        (FIT, False, "the driver does not see what node b writes there"),
        (
            replace(FIT, problem="expected the file of init x.pth"),
            True,
            r"^node b: expected the file of init x\.pth\. Give that node",
        ),
    ],
)
def test_a_node_that_is_not_fit_is_named(facts: NodeFacts, returned: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refuse_unfit(Path("/runs"), PROBE, {"a": FIT, "b": facts}, {"a": True, "b": returned})


def test_fit_nodes_pass_without_a_remark() -> None:
    refuse_unfit(Path("/runs"), PROBE, {"a": FIT, "b": FIT}, {"a": True, "b": True})
    assert remarks(Path("/runs"), {"a": FIT, "b": FIT}, {"a": 0.2, "b": -4.9}) == ()


def test_slow_storage_and_clocks_that_are_apart_are_remarked() -> None:
    slow = replace(FIT, seen=Seen("word", "own", 3.21))
    said = remarks(Path("/runs"), {"a": FIT, "b": slow}, {"a": 61.0, "b": -12.0})
    assert said[0].startswith("/runs: 1 s or less is expected for a small file, but node b took 3.2 s")
    assert said[1].startswith(
        "the clock of node a is 61 s ahead of the driver's; budget.hours ends its trials that much"
    )
    assert "too early" in said[1] and "node b is 12 s behind" in said[2] and "too late" in said[2]


def test_a_probe_is_seen_both_ways_and_leaves_nothing(tmp_path: Path) -> None:
    storage = tmp_path / "deep" / "runs"
    with storage_probe(storage) as probe:
        seen = look(probe, "node-a")
        assert seen.word == probe.word and seen.write_s > 0
        assert probe.came_back("node-a", seen.own) and not probe.came_back("node-b", seen.own)
    assert not any(tmp_path.iterdir())


def test_a_probe_goes_after_an_error_and_leaves_others_files(tmp_path: Path) -> None:
    (tmp_path / "run-1").mkdir()
    with pytest.raises(KeyboardInterrupt), storage_probe(tmp_path):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["run-1"]


def test_a_node_without_the_storage_makes_no_folder_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segsweep.clusters.shared_storage.SEEN_WITHIN_S", 0.0)
    assert look(StorageProbe(tmp_path / "runs" / ".probe-1", "word"), "node-a") == Seen("")
    assert not any(tmp_path.iterdir())


def test_storage_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="file/runs: expected a folder to write to, but got: Not a directory"),
        storage_probe(tmp_path / "file" / "runs"),
    ):
        pass


def test_missing_and_other_files_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"1234")
    files = files_at("the images of train", tmp_path, ["a.png", "b.png", "c.png"])
    assert problem_of(Needs([files])) is None
    (tmp_path / "b.png").write_bytes(b"123")
    expected = f"expected the 3 files of the images of train in {tmp_path}"
    assert problem_of(Needs([files])) == f"{expected} as they are on the driver, but 1 differ: b.png has 3 bytes, not 4"
    (tmp_path / "c.png").unlink()
    assert problem_of(Needs([files])) == f"{expected}, but 1 is missing, such as c.png"


def test_published_weights_lie_where_the_node_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSWEEP_WEIGHTS", str(tmp_path))
    needs = Needs(published={"r50.pth": 3})
    assert problem_of(needs) == (
        f"expected the file of published weights in {tmp_path}, but 1 is missing, such as r50.pth"
    )
    (tmp_path / "r50.pth").write_bytes(b"123")
    assert problem_of(needs) is None


def test_modules_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "__init__.py").write_text("")
    (tmp_path / "heads" / "mask.py").write_text("A = 1\n")
    (tmp_path / "losses.py").write_text("B = 1\n")
    needs = with_modules(Needs(), ["heads.mask", "losses", "numpy", "nowhere"], tmp_path)
    assert needs.files == [
        Files("custom_imports heads", tmp_path, {"heads/__init__.py": 0, "heads/mask.py": 6}),
        Files("custom_imports losses", tmp_path, {"losses.py": 6}),
    ]
    assert needs.modules == ["numpy", "nowhere"]
    assert problem_of(needs) == "expected the module nowhere (custom_imports), but it is not installed"


def test_a_module_that_an_import_hook_finds_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install -e` leaves such a hook."""

    class Hook:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            return ModuleSpec(name, None) if name == "editable_heads" else None

    assert problem_of(Needs(modules=["editable_heads"])) is not None
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Hook])
    assert problem_of(Needs(modules=["editable_heads"])) is None


def test_gpu_memory_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory_here() == ()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 81920\necho 49152\n")
    program.chmod(0o755)
    assert gpu_memory_here() == (80.0, 48.0)
    program.write_text('#!/bin/sh\ntest "$1" = --id=1 && echo 49152\n')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_memory_in_reach() == (48.0,) and gpu_memory_here("") == gpu_memory_here("-1") == ()
    program.write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    assert gpu_memory_here() == ()


def test_what_a_node_finds(tmp_path: Path) -> None:
    with storage_probe(tmp_path) as probe:
        found = facts_here(NodeQuestion(probe, "node-a"), Needs(modules=["nowhere"]))
    assert found.seen.word == probe.word and found.problem is not None and "nowhere" in found.problem
