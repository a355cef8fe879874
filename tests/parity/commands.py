"""The commands whose results have to stay equal, in order: later ones read what earlier ones wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Command(NamedTuple):
    """A command line under a name. What it prints is compared, and every file below its `--out`."""

    name: str
    line: str
    timed: bool = False
    """Whether it prints and draws seconds: only its JSON is compared then."""

    @property
    def files(self) -> list[Path]:
        """What lies below its `--out`; nothing for a command without one."""
        out = re.search(r"--out (\S+)", self.line)
        return sorted(path for path in Path(out[1]).rglob("*") if path.is_file()) if out else []


TRAIN = (
    "--set train.batch_size=4 --set train.warmup_steps=2 --set train.log_every=1 --set train.mixed_precision=no "
    "--set train.schedule=constant"
)
VAE = (
    "--set train.max_steps=6 --set train.learning_rate=4e-3 --set data.crop=24 --set data.limit=8 "
    "--set vae.latent_channels=4 --set 'vae.block_out_channels=[8,8,16]' --set vae.norm_num_groups=4"
)
BASE = (
    "--set vae=runs/vae/model --set train.max_steps=4 --set text_encoder.vocabulary=540 --set text_encoder.tokens=16 "
    "--set text_encoder.width=16 --set text_encoder.layers=1 --set text_encoder.heads=2 --set unet.norm_num_groups=8 "
    "--set unet.heads=2 --set 'unet.block_out_channels=[16,32]' --set 'unet.attention=[false,true]' "
    '--set \'preview_prompts=["a hut","the sea"]\''
)
JOINT = "--set model=runs/base/model --set 'preview_prompts=[\"a red hut\"]'"
MASKED = (
    '--set model=runs/joint-depth/model --set \'data.maps=["rgb","depth"]\' --set preview_prompts=[] '
    "--set data.cache=false --set data.workers=1 --set train.accumulation=2 --set train.gradient_checkpointing=true"
)
TEXT = "--set objective.text_dropout=0.1 --set data.shards=shards/worlds --set data.size=32 --set data.workers=0"
IMAGES = "--steps 4"
TABLES = "--steps 2 --resamples 50"


COMMANDS = [
    # One image, its maps and its scene
    Command("generate", f"generate 'a red hut' --count 2 --seed 7 {IMAGES} --json --out generate"),
    Command("generate-depth", f"generate 'ocean reef' --depth in/map.png --scheduler ddim {IMAGES} --out depth2image"),
    Command("generate-batch", f"generate --prompts in/items.csv --scheduler euler {IMAGES} --out batch"),
    Command(
        "generate-scene",
        "generate 'a lake in the mountains' --mesh glb --mesh ply --mesh obj --mesh points --stereo sbs "
        "--stereo vr180 "
        f"--viewer --near 1 --far 40 {IMAGES} --out scene",
    ),
    Command(
        "generate-sharp",
        "generate 'a pyramid' --mesh glb --sharpen --watertight --no-layers --max-triangles 900 "
        f"--known-distances in/known.csv {IMAGES} --out sharp",
    ),
    Command("depth", "depth in/photo.png in/photos --ensemble 3 --steps 2 --out depth"),
    Command("depth-tiles", "depth in/photo.png --max-side 256 --tile-batch 2 --steps 2 --out tiles"),
    Command(
        "inpaint",
        "inpaint in/photo.png 'a red hut' --depth in/map.png --mask in/mask.png --depth-mask in/depth-mask.png "
        f"--strength 0.8 --scheduler dpm++ {IMAGES} --out inpaint",
    ),
    Command("refine", f"refine in/photo.png in/map.png --scale 2 {IMAGES} --out refine"),
    # Panoramas
    Command("panorama", f"panorama 'ocean reef' --width 512 {IMAGES} --out panorama"),
    Command(
        "panorama-multidiffusion",
        f"panorama reef --width 384 --method multidiffusion --span 180 --no-viewer --no-layers {IMAGES} --out multi",
    ),
    Command(
        "panorama-syncdiffusion",
        "panorama reef --width 256 --method syncdiffusion --no-viewer --no-layers --steps 2 --out sync",
    ),
    Command(
        "panorama-direct",
        f"panorama reef --width 256 --method direct --no-wrap --no-viewer --no-layers {IMAGES} --out direct",
    ),
    Command(
        "inpaint-seam",
        "inpaint panorama/00000_0_ocean-reef.rgbdn.exr 'ocean reef' --mask in/ring-mask.png --no-viewer "
        f"--no-layers {IMAGES} --out seam",
    ),
    Command(
        "view",
        "view panorama/00000_0_ocean-reef.rgbdn.exr --stereo tb360 --orbit clip.mp4 --no-layers --out view",
    ),
    # Between conventions
    Command(
        "convert-distance",
        "convert generate/00000_7_a-red-hut.rgbdn.exr --to exr --as distance --near 1 --far 30 --out convert/a",
    ),
    Command(
        "convert-sphere",
        "convert panorama/00000_0_ocean-reef.rgbdn.exr --to exr --projection equirectangular --out convert/b",
    ),
    Command(
        "convert-png",
        "convert generate/00000_7_a-red-hut.rgbdn.exr --to png --bits 16 --as distance --near 1 --far 30 "
        "--step 0.001 --out convert/c",
    ),
    Command(
        "convert-tiff",
        "convert generate/00000_7_a-red-hut.rgbdn.exr --to tiff --content depth --bits 32 --out convert/d",
    ),
    Command(
        "convert-npy",
        "convert in/distance.npy --content depth --depth-kind distance --to npy --as disparity --out convert/e",
    ),
    Command(
        "convert-jpg",
        "convert panorama/00000_0_ocean-reef.rgbdn.exr --to jpg --content image --projection equirectangular "
        "--crop --out convert/f",
    ),
    # Other families of base models
    Command("generate-sdxl", f"generate 'a lake' -m in/sdxl {IMAGES} --out sdxl"),
    Command("generate-if", f"generate 'a lake' -m in/if {IMAGES} --out if"),
    # Data
    Command(
        "prepare-worlds",
        "prepare worlds --count 12 --size 32 --shard-size 6 --workers 1 --out shards/worlds",
    ),
    Command(
        "prepare-evaluation",
        "prepare worlds --evaluation --seed 1000000000 --count 4 --size 64 --shard-size 4 "
        "--workers 1 --out shards/evaluation",
    ),
    Command(
        "prepare-folder",
        "prepare in/photos --size 32 --label 'depth=onnx:in/teacher.onnx?mean=0&std=1' --out shards/folder",
    ),
    # Training, every stage
    Command("train-vae", f"train diorama/vae {VAE} {TRAIN} --out runs/vae"),
    Command("train-base", f"train diorama/base {BASE} {TRAIN} --out runs/base"),
    Command("train-joint", f"train diorama/joint-depth {JOINT} {TRAIN} --set train.max_steps=5 --out runs/joint-depth"),
    Command("train-half", f"train diorama/joint-depth {JOINT} {TRAIN} --set train.max_steps=3 --out runs/resumed"),
    Command("train-resumed", f"train diorama/joint-depth {JOINT} {TRAIN} --set train.max_steps=5 --out runs/resumed"),
    Command("train-masked", f"train diorama/inpaint {MASKED} {TRAIN} --set train.max_steps=3 --out runs/inpaint"),
    Command(
        "train-streamed",
        f"train diorama/joint-depth {JOINT} {TRAIN} --set data.cache=false --set data.workers=2 "
        "--set train.max_steps=3 --out runs/streamed",
    ),
    Command(
        "train-lora",
        f"train diorama/lora-depth {JOINT} {TRAIN} --set train.max_steps=2 --set train.preview_steps=1 --out runs/lora",
    ),
    Command(
        "train-if",
        f"train if-depth --set model=in/if {TEXT} {TRAIN} --set train.max_steps=2 "
        f"--set train.preview_steps=2 --set data.label={{}} "
        "--set 'preview_prompts=[\"a lake\"]' --out runs/if",
    ),
    Command("export", "models export runs/joint-depth/model --out published"),
    Command("import", "models import published --base runs/base/model --out imported"),
    Command("show", "models show runs/inpaint/model --json"),
    # Tables
    Command(
        "evaluate-depth",
        f"evaluate depth --shards shards/evaluation --row jointnet --row mean-map:shards/worlds {TABLES} "
        "--out tables/depth",
    ),
    Command(
        "evaluate-normal", f"evaluate normal --shards shards/evaluation --row jointnet {TABLES} --out tables/normal"
    ),
    Command(
        "evaluate-generation",
        f"evaluate generation --shards shards/evaluation --row jointnet:diorama {TABLES} --out tables/generation",
    ),
    Command(
        "evaluate-depth-to-image",
        f"evaluate depth-to-image --shards shards/evaluation --row jointnet:diorama {TABLES} --out tables/d2i",
    ),
    Command(
        "evaluate-panorama",
        f"evaluate panorama --prompts in/prompts.txt --seeds 1 --row jointnet --row multidiffusion {TABLES} "
        "--out tables/panorama",
        timed=True,
    ),
    Command(
        "evaluate-consistency",
        f"evaluate consistency --prompts in/prompts.txt --samples 2 --panoramas 1 --row jointnet {TABLES} "
        "--out tables/consistency",
    ),
    Command("compare", "evaluate compare a=generate b=generate --match order --out study"),
    # Plans
    Command("plan-panorama", "panorama 'ocean reef' --width 1024 --dry-run --json"),
    Command("plan-train", "train diorama/inpaint --set model=runs/joint-depth/model --out runs/plan --dry-run"),
]
GROUPS = ["models", "recipe", "evaluate"]
"""Commands of commands, whose help texts are compared one by one."""
