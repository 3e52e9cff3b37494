"""SIGTERM ends a command like Ctrl-C does, also one that a script started in the background."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from segsweep.driver import stopped_by_sigterm


@pytest.fixture(autouse=True)
def signals_given_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "background"])
def test_sigterm_interrupts(handler: Callable[..., Any] | signal.Handlers) -> None:
    signal.signal(signal.SIGINT, handler)
    with pytest.raises(KeyboardInterrupt), stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)


def test_whoever_handles_ctrl_c_handles_sigterm() -> None:
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    with stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGINT]


def test_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopped_by_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
