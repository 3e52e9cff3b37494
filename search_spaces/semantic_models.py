"""The models for semantic segmentation, one row each, and the groups of them that share knobs."""

from search_spaces.backbones import MIX_TRANSFORMERS, RESNETS, RESNEXTS
from search_spaces.model import Model

__all__ = ["SEMANTIC_MODELS"]

SEMANTIC_MODELS = (
    Model(
        name="segformer",
        task="semantic",
        help="Mix Transformer encoder with a light all-MLP head",
        zoo="segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        backbones=MIX_TRANSFORMERS,
        optimizer="adamw",
        lr=6e-5,
        source="001: model search over MMSegmentation",
    ),
    Model(
        name="deeplabv3plus",
        task="semantic",
        help="dilated encoder, pyramid of dilated convolutions, decoder",
        zoo="deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=(*RESNETS, *RESNEXTS),
        optimizer="sgd",
        lr=0.01,
        source="004: DeepLabV3+ R50 LB 0.5628-0.5817, R101 0.5027-0.5911",
    ),
)
