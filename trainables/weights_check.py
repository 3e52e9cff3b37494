"""Trying a user's checkpoints on the models that are to start from them, inside a child of the fork server.

So that a checkpoint of another architecture is refused before a sweep starts, not by each of its trials.
"""

from dataclasses import asdict
from multiprocessing.connection import Connection

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from trainables.config import build_config
from trainables.requests import WeightsRequest
from trainables.trial import prepare_process
from trainables.weights import load_parts
from trainables.weights_plan import initial_parts, place_parts

__all__ = ["check"]


def check(request: WeightsRequest, connection: Connection) -> None:
    """The child's job: builds each model, loads its weights, sends ("loaded", what was) for each.

    Raises:
        InputError: They are those of another architecture; says how much matched.
    """
    prepare_process(1, request.custom_imports, request.folder)
    for number, trial in enumerate(request.trials):
        parts = initial_parts(trial.model, request.data.task, request.local)
        config = Config(build_config(trial, request.data, seed=0))
        DefaultScope.get_instance(f"weights-{number}", scope_name=config.default_scope)
        with DefaultScope.overwrite_default_scope(config.default_scope):
            model = MODELS.build(config.model)
        loaded = load_parts(model, trial.model.init, place_parts(parts, request.folder, request.weights))
        connection.send(("loaded", asdict(loaded)))
