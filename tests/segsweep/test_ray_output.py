"""What is printed while Ray runs goes where progress goes, so that standard output holds the result alone."""

import pytest
from rich.console import Console

from segsweep.ray_session import ray_session


@pytest.mark.slow
@pytest.mark.parametrize("to_stderr", [True, False])
def test_what_ray_prints_goes_where_the_console_writes(to_stderr: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with ray_session(None, Console(stderr=to_stderr)):
        print("(raylet) a node has died")
    print("{}")
    out, err = capsys.readouterr()
    assert ("(raylet) a node has died" in err) is to_stderr
    assert out.splitlines() == (["{}"] if to_stderr else ["(raylet) a node has died", "{}"])
