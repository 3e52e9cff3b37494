"""The tables in docs/ that `make docs` writes are those of the code as it is."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from search_spaces.knobs import KNOBS
from search_spaces.model_sizes import SIZES_FILE
from search_spaces.models import MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("models.md", "training.md")


@pytest.fixture(scope="module")
def write_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_code(write_docs: ModuleType, page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert write_docs.rendered(text) == text, f"docs/{page} is out of date: run `make docs`"


def test_every_model_and_every_knob_has_its_row() -> None:
    models, training = ((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
    rows = re.findall(r"^\| `([\w+-]+)` \|", models, re.MULTILINE)
    assert set(MODELS) <= set(rows), "run `make docs`"
    assert re.findall(r"^\| `(\w+)` \| ", training, re.MULTILINE)[-len(KNOBS) :] == list(KNOBS), "run `make docs`"


def test_every_model_and_encoder_was_measured() -> None:
    sizes = json.loads(SIZES_FILE.read_text(encoding="utf-8"))
    assert list(sizes["models"]) == list(MODELS), "run `make docs`"
    encoders = {name for model in MODELS.values() for name in model.backbones}
    assert set(sizes["encoders"]) == encoders, "run `make docs`"


def test_a_section_that_no_table_is_for_is_an_error(write_docs: ModuleType) -> None:
    with pytest.raises(KeyError, match="nothing of ours"):
        write_docs.rendered("<!-- nothing of ours: written by make docs -->\n<!-- end -->\n")
