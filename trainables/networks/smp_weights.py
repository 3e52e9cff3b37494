"""Where the published weights of segmentation-models-pytorch's and timm's encoders lie. Downloads nothing.

Imports segmentation-models-pytorch and timm.
"""

import segmentation_models_pytorch as smp
import timm

__all__ = ["published_names", "published_weights"]

HUB = "https://huggingface.co/{repository}/resolve/{revision}/model.safetensors"


def published_names(encoder: str) -> tuple[str, ...]:
    """Returns the weights that there are for an encoder, ("imagenet", "noisy-student"); none for an unknown one."""
    if encoder.startswith("tu-"):
        return ("imagenet",) if published_weights(encoder) else ()
    return tuple(smp.encoders.encoders[encoder]["pretrained_settings"]) if encoder in smp.encoders.encoders else ()


def published_weights(encoder: str, name: str = "imagenet") -> str | None:
    """Returns the URL of an encoder's weights, None if there are none of that name.

    For timm's (`tu-NAME` or `tu-NAME.TAG`) these are the weights of the tag, or timm's default ones, whatever set they
    were trained on.
    """
    if not encoder.startswith("tu-"):
        settings = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {}).get(name)
        return HUB.format(repository=settings["repo_id"], revision=settings["revision"]) if settings else None
    settings = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
    if name != "imagenet" or settings is None:
        return None
    if settings.hf_hub_id:
        return HUB.format(repository=settings.hf_hub_id, revision="main")
    return settings.url if isinstance(settings.url, str) else None
