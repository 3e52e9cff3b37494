"""What a model is: one literal row that says its name, task, base config, backbones and stock optimizer.

The rows lie in `instance_models` and `semantic_models`; `models` gathers them. Imports only `search_spaces.knob`.
"""

from dataclasses import dataclass

from search_spaces.knob import Task

__all__ = ["TIMM_PREFIX", "Model", "is_timm_encoder"]

TIMM_PREFIX = "tu-"


@dataclass(frozen=True, slots=True)
class Model:
    """One network by its short name.

    Attributes:
        name: What a sweep file calls it.
        task: What it segments.
        help: One line for tables.
        zoo: The config file that it starts from, below the zoo folder of its task.
        backbones: The encoders that it can stand on, the stock one first.
        optimizer: Stock optimizer.
        lr: Stock learning rate for the zoo's batch.
        source: The row of the field reports that it comes from, or what else it follows.
        needs: What it needs beyond a CPU, in words; "" = nothing.
        any_timm: Whether every encoder of timm (`tu-NAME`) fits as well.
    """

    name: str
    task: Task
    help: str
    zoo: str
    backbones: tuple[str, ...]
    optimizer: str
    lr: float
    source: str
    needs: str = ""
    any_timm: bool = False

    @property
    def needs_gpu(self) -> bool:
        """Whether it can't train on a CPU."""
        return self.needs == "GPU"

    def takes_backbone(self, name: str) -> bool:
        """Says whether it can stand on the encoder `name`."""
        return name in self.backbones or (self.any_timm and is_timm_encoder(name))


def is_timm_encoder(name: str) -> bool:
    """Says whether `name` is meant as an encoder of timm, as segmentation-models-pytorch writes it."""
    return name.startswith(TIMM_PREFIX) and len(name) > len(TIMM_PREFIX)
