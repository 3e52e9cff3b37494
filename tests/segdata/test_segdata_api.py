"""The public names of segdata, pinned, and what importing it may not cost."""

import subprocess
import sys

import segdata


def test_every_public_name_is_there_and_sorted():
    assert list(segdata.__all__) == sorted(segdata.__all__)
    assert all(hasattr(segdata, name) for name in segdata.__all__)


def test_the_names_that_others_build_on_stay():
    assert {
        "read_coco",
        "write_coco",
        "read_labels",
        "coco_to_labelmaps",
        "PredictionSet",
        "PredictionWriter",
        "truth_as_predictions",
        "make_split",
        "read_split",
        "write_split",
        "find_defects",
        "synthesize",
        "instance_fingerprint",
        "semantic_fingerprint",
        "object_statistics",
        "pixel_statistics",
    } <= set(segdata.__all__)


def test_importing_it_loads_neither_torch_nor_ray_nor_scikit_learn():
    code = (
        "import sys, segdata; print([m for m in ('torch', 'ray', 'mmengine', 'sklearn', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
