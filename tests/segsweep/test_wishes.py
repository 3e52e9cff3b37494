"""Points that a user wants tried: what they may say, and that none is lost or tried twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.space import Space
from segdata.errors import InputError
from segsweep.wishes import Wishes, parse_wish, wished_parameters

SpaceOf = Callable[..., Space]
Open = Callable[..., Any]

SPACE: dict[str, Any] = {
    "optimizer": {"choice": ["sgd", "adamw"]},
    "lr": [
        {"when": {"optimizer": "sgd"}, "float": [1e-3, 1e-1], "log": True},
        {"when": {"optimizer": "adamw"}, "float": [1e-5, 1e-3], "log": True},
    ],
    "batch_size": {"int": [1, 8]},
    "ema": {"choice": [0.0, 0.25]},
}


@pytest.fixture
def cased(space_of: SpaceOf) -> Space:
    return space_of(SPACE, forbid=[{"optimizer": "sgd", "batch_size": 8}])


@pytest.mark.parametrize(
    ("pairs", "parameters"),
    [
        (["lr=0.01"], {"lr[optimizer=sgd]": 0.01}),
        (["lr=1e-3"], {"lr[optimizer=sgd]": 1e-3, "lr[optimizer=adamw]": 1e-3}),  # either case has it
        (["batch_size=4", "optimizer=AdamW"], {"batch_size": 4, "optimizer": "adamw"}),
        (["ema=0"], {"ema": 0.0}),
    ],
)
def test_a_wish_sets_every_case_that_allows_it(pairs: list[str], parameters: dict[str, Any], cased: Space) -> None:
    assert wished_parameters(cased, parse_wish(pairs)) == parameters


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["lr"], "point: expected KNOB=VALUE, but got 'lr'"),
        (["lr=1", "lr=2"], "point: expected lr once, but got it twice"),
        (["lrr=0.01"], "point: expected a knob that the sweep searches, but got lrr=0.01. Did you mean lr?"),
        (["epochs=9"], "epochs: expected a knob that is searched, but it is fixed at 3"),
        (["lr=0.5"], "lr: expected 0.001 to 0.1"),
        (["lr=fast"], "but got fast"),
        (["batch_size=2.5"], "batch_size: expected "),
        (["optimizer=adam"], "optimizer: expected "),
        (["optimizer=adamw", "lr=0.1"], "point: expected lr=0.1 beside optimizer=sgd only, but got optimizer=adamw"),
        (["optimizer=sgd", "batch_size=8"], "expected an allowed combination, but got optimizer=sgd, batch_size=8"),
    ],
)
def test_a_wish_that_cannot_come_true_is_refused(pairs: list[str], told: str, cased: Space) -> None:
    with pytest.raises(InputError) as error:
        wished_parameters(cased, parse_wish(pairs))
    assert told in str(error.value) and "\n" not in str(error.value)


def test_wishes_wait_in_their_order_until_they_are_fulfilled(tmp_path: Path) -> None:
    wishes = Wishes(tmp_path / "wishes")
    assert wishes.waiting() == ()
    first, second = wishes.add({"lr": 0.01}), wishes.add({"lr": 0.03})
    (tmp_path / "wishes" / "000009-x.tmp").write_text('{"lr"')  # a command that was killed in the middle
    assert wishes.waiting() == (first, second)
    wishes.fulfil(first)
    assert wishes.waiting() == (second,)
    third = wishes.add({"lr": 0.03})
    assert wishes.waiting() == (second, third)


def test_a_wish_is_the_next_trial_and_counts_once(search: Open, tmp_path: Path) -> None:
    one = search(budget=4)
    one.searcher.suggest("baseline")
    wishes = Wishes(tmp_path / "wishes")
    first, second = wishes.add({"lr": 0.01}), wishes.add({"lr": 0.03})
    assert one.searcher.suggest("a")["trial"]["optimization"]["lr"] == 0.01
    assert wishes.waiting() == ()
    (tmp_path / "wishes" / f"{second.id}.json").write_text('{"lr": 0.03}')  # a kill came before it was removed
    two = search(budget=4)
    taken = [two.searcher.suggest(name)["trial"]["optimization"]["lr"] for name in ("b", "c", "d", "e")]
    assert taken[1:3] == [0.01, 0.03] and taken.count(0.03) == 1  # the baseline and the first go on, the second follows
    assert [record.origin for record in two.records()] == ["baseline", "user", "user", "sampler"]
    assert first.id != second.id
