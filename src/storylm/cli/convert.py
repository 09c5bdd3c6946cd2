"""`storylm convert`: a llama2.c model as a model folder."""

from pathlib import Path

import typer


def convert(
    source: Path = typer.Argument(..., help="A llama2.c model, such as stories15M.bin."),
    out: Path = typer.Argument(..., help="The model folder to write."),
    tokenizer: str = typer.Option(None, help="Its tokenizer, such as llama2.c's tok512.model."),
) -> None:
    """Convert a llama2.c .bin file to a folder that storylm and transformers load.

    Reads back what it wrote: the weights are the same to the bit.
    """
    import storylm
    from storylm.config.errors import CheckpointError
    from storylm.config.files import expanded
    from storylm.model.llama2c import read_llama2c

    source, out = expanded(source), expanded(out)
    model = read_llama2c(source)
    storylm.save(model, storylm.Tokenizer.load(tokenizer) if tokenizer else None, out)
    written, _ = storylm.load(out)
    weights = written.state_dict()
    if not all(tensor.equal(weights[name]) for name, tensor in model.state_dict().items()):
        raise CheckpointError(f"{out} does not hold the weights of {source}: try again, on another disk")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    config = model.config
    print(f"{out}: {parameters:,} parameters, {config.layers} layers of width {config.width}, context {config.context}")
    if tokenizer:
        print(f'next   storylm generate {out} --prompt "Once upon a time"')
    else:
        print(f"next   storylm convert {source} {out} --tokenizer FILE   (without its tokenizer it tells no stories)")
