"""Which networks are fused and how, and what a set that is the work of several records of it."""

from pathlib import Path

import pytest
from rich.console import Console

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord
from ensembling.settings import FusionSettings
from segdata.errors import InputError
from segdata.views import PLAIN, View
from segsweep.ensembles.predicting import ViewChoice, predict_source, read_views, recipe_of, recipe_settings
from segsweep.predicting import How, network_settings
from segsweep.prediction_source import ImagesSource, Network, Source
from trainables.prediction_job import WindowChoice


@pytest.fixture
def network(tmp_path: Path) -> Network:
    (tmp_path / "config.py").write_text("model = dict()\n")
    (tmp_path / "best.pth").write_bytes(b"weights")
    return Network(tmp_path / "config.py", tmp_path / "best.pth", "0003")


@pytest.fixture
def images(tmp_path: Path) -> ImagesSource:
    return ImagesSource(tmp_path, (), {}, "f00d")


def ensemble(network: Network) -> Source:
    members = (EnsembleMember(path=Path("a"), weight=2), EnsembleMember(path=Path("b"), view="hflip"))
    record = EnsembleRecord(
        task="semantic", members=members, method="soft-vote", dataset_fingerprint="f00d", code_version="t"
    )
    other = Network(network.config, network.checkpoint, "0003", view=View.parse("hflip"))
    return Source("ensemble mine", (network, other), record)


def test_the_plain_view_is_always_there_and_first() -> None:
    assert [str(view) for view in read_views("hflip, rot90+scale1.25")] == ["plain", "hflip", "rot90+scale1.25"]
    assert [str(view) for view in read_views("hflip,plain")] == ["plain", "hflip"]


def test_views_of_one_network_count_alike(network: Network) -> None:
    recipe = recipe_of(Source("trial 0003", (network,)), ViewChoice(read_views("hflip,vflip")))
    assert recipe is not None and recipe.weights == (1, 1, 1) and recipe.settings == FusionSettings()
    assert [str(one.view) for one in recipe.networks] == ["plain", "hflip", "vflip"]
    assert recipe.task is None, "a stock network's task is known once its config is read"
    assert (recipe.method_for("instance"), recipe.method_for("semantic")) == ("mask-fusion", "soft-vote")
    named = recipe_of(Source("trial 0003", (network,)), ViewChoice(read_views("hflip"), "wbf"))
    assert named is not None and (named.task, named.method_for("instance")) == ("instance", "wbf")
    assert recipe_of(Source("trial 0003", (network,)), None) is None


def test_an_ensemble_is_given_no_views(network: Network, images: ImagesSource, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="--tta: expected one network, but got an ensemble. Its members have views"):
        predict_source(
            ensemble(network), images, tmp_path / "out", How(), Console(), ViewChoice((PLAIN, View.parse("hflip")))
        )
    assert sorted(tmp_path.iterdir()) == before


def test_members_views_are_recorded_and_sets_without_stay_as_they_were(network: Network, images: ImagesSource) -> None:
    recipe = recipe_of(ensemble(network), None)
    assert recipe is not None and recipe.weights == (2, 1)
    settings = recipe_settings(recipe, "semantic", images, How(stride=4))
    assert settings["views"] == ["plain", "hflip"] and settings["stride"] == 4 and "view" not in settings
    alone = network_settings(network, images, None)
    assert settings["weights"] == [alone["weights"]] * 2 and not {"view", "stride"} & set(alone)


def test_a_views_windows_win_over_those_of_all(network: Network, images: ImagesSource) -> None:
    seen = Network(network.config, network.checkpoint, view=View.parse("rot90+window96"))
    found = network_settings(seen, images, WindowChoice(512, 0.5, 2.0))
    assert (found["view"], found["window"], found["overlap"], found["scale"]) == ("rot90+window96", 96, 0.5, 2.0)
    alone = network_settings(seen, images, None)
    assert (alone["window"], alone["overlap"], alone["scale"]) == (96, 0.25, None)
