"""`storylm push`: a model on the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    model: str = typer.Argument(help="A model folder or a run folder."),
    name: str = typer.Argument(metavar="OWNER/NAME", help="The repository; it is made where there is none."),
    public: Annotated[bool, typer.Option("--public", help="For all to see; without it a new one is private.")] = False,
    license: str = typer.Option(None, help="For the model card, one of the Hub's names, such as mit or apache-2.0."),
    figures: Path = typer.Option(None, help="For the card: the JSON of `storylm evaluate` or `storylm leaderboard`."),
) -> None:
    """Upload a model with a filled model card to the Hugging Face Hub; private, unless --public.

    Log in first: `hf auth login`, or HF_TOKEN in the environment.
    """
    from storylm.config.files import expanded
    from storylm.export.hub import push as push_to_hub
    from storylm.model.folders import find_model_folder

    folder = find_model_folder(expanded(model))
    address = push_to_hub(folder, name, public=public, license=license, figures=figures and expanded(figures))
    print(f'{address}\nnext   storylm generate {name} --prompt "Once upon a time"')
    if not public:
        print("       only you and those whom you let see it, unless the repository was public before")
