"""Make models of models: the one that a run of days starts from, branches beside another base, the folder that is shipped.

python tools/diorama/weights.py begin MODEL FOLDER                   # float32, a token for every word of today's captions
python tools/diorama/weights.py join MODEL BASE FOLDER               # with the base and text encoder of another model
python tools/diorama/weights.py average MODEL EARLIER FOLDER         # the mean of a model and the one it went on from
python tools/diorama/weights.py ship MODEL FOLDER [--decoder VAE]    # float16, if asked with another decoder
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jointnet_cli.errors import UserError

SHARD_SIZE = "15MB"
"""Of the files that are shipped, which a repository bears."""


def begin(source: str, folder: Path) -> None:
    """Write a model in float32, with a token for every word of today's captions."""
    import torch

    from jointnet_cli.data.worlds.vocabulary import caption_words
    from jointnet_cli.model.checkpoint import load_model, save_model
    from jointnet_cli.model.hub import find_model
    from jointnet_cli.model.text import ClipEncoder
    from jointnet_cli.training.stages.from_scratch import add_words, grow_vocabulary

    torch.manual_seed(0)
    model = load_model(find_model(source))
    tokenizer, encoder = model.text.tokenizers["tokenizer"], model.text.encoders["text_encoder"]
    new = [word for word in caption_words() if not model.words or word not in model.words.known]
    tokenizer = add_words(tokenizer, new, folder / "tokenizer")
    text = ClipEncoder(tokenizer, grow_vocabulary(encoder, len(tokenizer)))
    save_model(replace(model, text=text), folder, torch.float32)


def join(source: str, base: str, folder: Path) -> None:
    """Write a model with the base and text encoder of one folder and all else of another, in float32."""
    import torch

    from jointnet_cli.modality import RGB
    from jointnet_cli.model.checkpoint import load_model, save_model

    model, trained = load_model(source), load_model(base)
    model.joint.backbone(RGB).load_state_dict(trained.joint.backbone(RGB).state_dict())
    provenance = {**model.provenance, "base": trained.provenance["base"]}
    save_model(replace(model, text=trained.text, provenance=provenance), folder, torch.float32)


def average(source: str, earlier: str, folder: Path) -> None:
    """Write the mean of a model and of the one that its training went on from, in float32; the VAE is the model's.

    It keeps most of what either is better at (Wortsman et al., 2022, Robust fine-tuning of zero-shot models).
    """
    import torch

    from jointnet_cli.model.checkpoint import load_model, save_model
    from jointnet_cli.model.hub import find_model

    model, former = load_model(source), load_model(earlier)
    for name in {"joint", *model.text.encoders}:
        other, own = former.networks[name].state_dict(), model.networks[name].state_dict()
        mean = {key: torch.lerp(other[key].float(), own[key].float(), 0.5) for key in own}
        model.networks[name].load_state_dict(mean)
    provenance = {**model.provenance, "averaged_with": find_model(earlier).weights_hash()}
    save_model(replace(model, provenance=provenance), folder, torch.float32)


def ship(source: str, folder: Path, decoder: Path | None = None) -> None:
    """Write a model in float16, with the decoder of another VAE where one is given.

    Raises:
        UserError: that VAE is missing, or has another encoder.
    """
    import torch
    from diffusers import AutoencoderKL

    from jointnet_cli.model.checkpoint import load_model, load_network, save_model
    from jointnet_cli.model.vae import encoder_hash
    from jointnet_cli.training.stages.vae import read_facts

    model = load_model(source)
    if decoder:
        if not (decoder / "config.json").is_file():
            raise UserError(f"no VAE in {decoder}", hint="jointnet train diorama/decoder trains one")
        vae = load_network(AutoencoderKL, decoder).eval()
        if encoder_hash(vae) != encoder_hash(model.vae):
            raise UserError(f"{decoder} has another encoder than {source}", hint="train it with decoder_only = true")
        runs = [read_facts(decoder)]
        while earlier := runs[-1].get("earlier"):
            runs.append(earlier)
        if model.provenance["vae"] not in runs:
            runs[-1]["earlier"] = model.provenance["vae"]
        model = replace(model, vae=vae, provenance={**model.provenance, "vae": runs[0]})
    save_model(model, folder, torch.float16, shard_size=SHARD_SIZE)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("begin", "join", "average", "ship"):
        part = parts.add_parser(name)
        part.add_argument("source", metavar="MODEL")
        if name == "join":
            part.add_argument("base", metavar="BASE")
        if name == "average":
            part.add_argument("earlier", metavar="EARLIER")
        part.add_argument("folder", type=Path, metavar="FOLDER")
        if name == "ship":
            part.add_argument("--decoder", type=Path, metavar="VAE")
    options = vars(parser.parse_args(arguments))
    makes: dict[str, Callable[..., None]] = {"begin": begin, "join": join, "average": average, "ship": ship}
    try:
        if options["folder"].exists():
            raise UserError(f"{options['folder']} exists", hint="name a new folder")
        makes[options.pop("part")](**options)
    except UserError as error:
        parser.exit(2, f"weights.py: {'; '.join(filter(None, (str(error), error.hint)))}\n")


if __name__ == "__main__":
    main()
