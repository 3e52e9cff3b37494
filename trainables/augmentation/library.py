"""Albumentations, without the question to the package index that its import asks."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # a training process must not wait on a network

import albumentations  # noqa: E402

__all__ = ["albumentations"]
