"""The transformer encoders: Swin, Mix Transformer, ViT, BEiT and BEiT with the ViT-Adapter."""

from trainables.encoders.rows import HALF, OPENMMLAB, Encoder, Weights

__all__ = ["TRANSFORMERS"]

MMSEG = f"{OPENMMLAB}/mmsegmentation/v0.5/pretrain"


def swin(embed_dims: int, depths: tuple[int, ...], heads: int, file: str) -> Encoder:
    """Liu et al. 2021 (arXiv 2103.14030), section 3.3; windows of 7 x 7."""
    backbone = {
        "type": "SwinTransformer",
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": tuple(heads * 2**stage for stage in range(4)),
        "window_size": 7,
        "drop_path_rate": 0.2,
    }
    return Encoder(backbone, {"imagenet": Weights(f"{MMSEG}/swin/{file}.pth")})


SWINS = {
    "swin-t": swin(96, (2, 2, 6, 2), 3, "swin_tiny_patch4_window7_224_20220317-1cdeb081"),
    "swin-s": swin(96, (2, 2, 18, 2), 3, "swin_small_patch4_window7_224_20220317-7ba6d6dd"),
    "swin-b": swin(128, (2, 2, 18, 2), 4, "swin_base_patch4_window7_224_20220317-e9b98025"),
    "swin-l": swin(192, (2, 2, 18, 2), 6, "swin_large_patch4_window7_224_22k_20220412-aeecf2aa"),
}


def mix_transformer(embed_dims: int, layers: tuple[int, ...], file: str) -> Encoder:
    """Xie et al. 2021 (arXiv 2105.15203), table 6."""
    backbone = {
        "type": "mmseg.MixVisionTransformer",
        "in_channels": 3,
        "embed_dims": embed_dims,
        "num_stages": 4,
        "num_layers": list(layers),
        "num_heads": [1, 2, 5, 8],
        "patch_sizes": [7, 3, 3, 3],
        "sr_ratios": [8, 4, 2, 1],
        "out_indices": (0, 1, 2, 3),
        "mlp_ratio": 4,
        "qkv_bias": True,
        "drop_rate": 0.0,
        "attn_drop_rate": 0.0,
        "drop_path_rate": 0.1,
    }
    return Encoder(backbone, {"imagenet": Weights(f"{MMSEG}/segformer/{file}.pth")})


MIX_TRANSFORMERS = {
    "mit-b0": mix_transformer(32, (2, 2, 2, 2), "mit_b0_20220624-7e0fe6dd"),
    "mit-b1": mix_transformer(64, (2, 2, 2, 2), "mit_b1_20220624-02e5a6a1"),
    "mit-b2": mix_transformer(64, (3, 4, 6, 3), "mit_b2_20220624-66e8bf70"),
    "mit-b3": mix_transformer(64, (3, 4, 18, 3), "mit_b3_20220624-13b1141c"),
    "mit-b4": mix_transformer(64, (3, 8, 27, 3), "mit_b4_20220624-d588d980"),
    "mit-b5": mix_transformer(64, (3, 6, 40, 3), "mit_b5_20220624-658746d9"),
}


def vit(embed_dims: int, layers: int, heads: int, file: str) -> Encoder:
    """Strudel et al. 2021 (arXiv 2105.05633), table 1."""
    backbone = {
        "type": "VisionTransformer",
        "img_size": (512, 512),
        "patch_size": 16,
        "in_channels": 3,
        "embed_dims": embed_dims,
        "num_layers": layers,
        "num_heads": heads,
        "drop_path_rate": 0.1,
        "final_norm": True,
        "norm_cfg": {"type": "LN", "eps": 1e-6, "requires_grad": True},
        "with_cls_token": True,
        "interpolate_mode": "bicubic",
    }
    return Encoder(backbone, {"imagenet": Weights(f"{MMSEG}/segmenter/{file}.pth")}, pixels=HALF)


VITS = {
    "vit-t": vit(192, 12, 3, "vit_tiny_p16_384_20220308-cce8c795"),
    "vit-s": vit(384, 12, 6, "vit_small_p16_384_20220308-410f6037"),
    "vit-b": vit(768, 12, 12, "vit_base_p16_384_20220308-96dfe169"),
    "vit-l": vit(1024, 24, 16, "vit_large_p16_384_20220308-d4efb41d"),
}

# Bao et al. 2021 (arXiv 2106.08254). OpenMMLab publishes the base size only.
BEIT_BASE = Weights(f"{OPENMMLAB}/mmclassification/v0/beit/beit-base_3rdparty_in1k_20221114-c0a4df23.pth", "backbone.")


def beit(
    embed_dims: int, layers: int, heads: int, out_indices: tuple[int, ...], weights: dict[str, Weights]
) -> Encoder:
    """The maps that its authors and the zoo give to UPerNet are those of the blocks `out_indices`."""
    backbone = {
        "type": "AnySizeBEiT",
        "img_size": (512, 512),
        "patch_size": 16,
        "in_channels": 3,
        "embed_dims": embed_dims,
        "num_layers": layers,
        "num_heads": heads,
        "mlp_ratio": 4,
        "out_indices": out_indices,
        "qv_bias": True,
        "drop_path_rate": 0.1 if layers == 12 else 0.2,
        "norm_cfg": {"type": "LN", "eps": 1e-6},
        "init_values": 0.1 if layers == 12 else 1e-6,
    }
    return Encoder(backbone, weights, pixels=HALF)


BEITS = {
    "beit-b": beit(768, 12, 12, (3, 5, 7, 11), {"imagenet": BEIT_BASE}),
    "beit-l": beit(1024, 24, 16, (7, 11, 15, 23), {}),
}


def adapter(embed_dims: int, layers: int, heads: int, weights: dict[str, Weights]) -> Encoder:
    """Chen et al. 2022 (arXiv 2205.08534), table 1; BEiT's weights fit its blocks."""
    backbone = {
        "type": "BEiTAdapter",
        "img_size": 512,
        "embed_dims": embed_dims,
        "num_layers": layers,
        "num_heads": heads,
        "stem_channels": 64,
        "drop_path_rate": 0.2 if layers == 12 else 0.3,
        "init_values": 0.1 if layers == 12 else 1e-6,
    }
    return Encoder(backbone, weights, pixels=HALF)


BEIT_ADAPTERS = {
    "beit-adapter-b": adapter(768, 12, 12, {"imagenet": BEIT_BASE}),
    "beit-adapter-l": adapter(1024, 24, 16, {}),
}

TRANSFORMERS: dict[str, Encoder] = {**SWINS, **MIX_TRANSFORMERS, **VITS, **BEITS, **BEIT_ADAPTERS}
