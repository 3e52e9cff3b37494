"""Makes our networks, losses, augmentation and training parts known to stock MMSegmentation and MMDetection tools.

An exported config.py that uses one of them says `custom_imports = dict(imports=["trainables.segsweep_modules"])`. This
is the one module whose import does something.
"""

from trainables.augmentation.register import register_augmentation
from trainables.networks import register as register_networks
from trainables.training_parts import register_training_parts

__all__: list[str] = []

register_networks()
register_augmentation()
register_training_parts()
