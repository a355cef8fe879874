"""Pipelines with every part of a real one, as small as diffusers allows, with random weights: 32 pixels a side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTokenizer

WINDOW, TEXT = 16, 16
"""Latent side and text width."""

UNET = {
    "sample_size": WINDOW,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": (2, 4),
}
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def stable_diffusion(tokenizer: CLIPTokenizer, *, velocity: bool) -> DiffusionPipeline:
    """Stable Diffusion 1, or 2 with `velocity`."""
    from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    schedule = DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction")
    return StableDiffusionPipeline(
        vae=tiny_vae(0.18215),
        text_encoder=CLIPTextModel(clip_config(tokenizer, "gelu" if velocity else "quick_gelu")),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            **UNET,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=TEXT,
            use_linear_projection=velocity,
        ),
        scheduler=schedule if velocity else PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(tokenizer: CLIPTokenizer, tokenizer_2: CLIPTokenizer) -> DiffusionPipeline:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    return StableDiffusionXLPipeline(
        vae=tiny_vae(0.13025),
        text_encoder=CLIPTextModel(clip_config(tokenizer, "quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(tokenizer, "gelu")),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=UNet2DConditionModel(
            **UNET,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            cross_attention_dim=2 * TEXT,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + TEXT,
        ),
        scheduler=EulerDiscreteScheduler(**NOISE),
        add_watermarker=False,
    )


def deepfloyd_if(pieces: Sequence[str]) -> DiffusionPipeline:
    """DeepFloyd-IF's first stage, whose tokenizer knows `pieces` of words."""
    from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary = [*marks, *((piece, -1.0) for piece in dict.fromkeys(pieces))]
    config = T5Config(
        vocab_size=len(vocabulary) + 100, d_model=TEXT, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    return IFPipeline(
        tokenizer=T5Tokenizer(vocab=vocabulary),
        text_encoder=T5EncoderModel(config).eval(),
        unet=UNet2DConditionModel(
            **{**UNET, "sample_size": 32, "attention_head_dim": 4},
            in_channels=3,
            out_channels=6,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            cross_attention_dim=32,
            encoder_hid_dim=TEXT,
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            cross_attention_norm="group_norm",
            resnet_time_scale_shift="scale_shift",
            act_fn="gelu",
        ),
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", thresholding=True, sample_max_value=1.5, variance_type="learned_range"
        ),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def tiny_vae(scaling_factor: float) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=2 * WINDOW,
        scaling_factor=scaling_factor,
    )


def clip_config(tokenizer: CLIPTokenizer, activation: str) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT,
        intermediate_size=32,
        projection_dim=TEXT,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act=activation,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
