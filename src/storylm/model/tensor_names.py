"""Weights under the names and in the shapes of transformers' files, and back.

Ours are `blocks.2.attention.q.weight` and the like, each a matrix [outputs, inputs]. A file has the rotary
features in the layout of its names, whatever `rope_layout` the model computes with.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from storylm.config.errors import CheckpointError
from storylm.config.model import ModelConfig

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Names:
    """The names of one family: ours -> theirs, for modules around the blocks and for those in a block.

    Where several of ours have one name, the file holds them stacked along the outputs in the model's order.
    """

    base: str  # what stands before all names but the head's; files of a bare body leave it out
    blocks: str
    around: dict[str, str]
    within: dict[str, str]
    transposed: tuple[str, ...] = ()  # modules whose matrices are stored [inputs, outputs]
    rope_layout: str = "half"  # see `ModelConfig.rope_layout`

    def theirs(self, name: str) -> str:
        """The name in the file of a parameter of ours."""
        module, _, kind = name.rpartition(".")
        if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", module):
            return f"{self.base}{self.blocks}.{match[1]}.{self.within[match[2]]}.{kind}"
        return f"{'' if module == 'head' else self.base}{self.around[module]}.{kind}"

    def is_transposed(self, theirs: str) -> bool:
        module, _, kind = theirs.rpartition(".")
        return kind == "weight" and module.endswith(self.transposed)


_GPT_AROUND = {"embedding": "wte", "positions.table": "wpe", "norm": "ln_f", "head": "lm_head"}
_GPT_WITHIN = {"attention_norm": "ln_1", "ff_norm": "ln_2", "ff.up": "mlp.c_fc", "ff.down": "mlp.c_proj"}
_LLAMA = Names(
    "model.",
    "layers",
    {"embedding": "embed_tokens", "norm": "norm", "head": "lm_head"},
    {
        "attention_norm": "input_layernorm",
        "attention.q": "self_attn.q_proj",
        "attention.k": "self_attn.k_proj",
        "attention.v": "self_attn.v_proj",
        "attention.out": "self_attn.o_proj",
        "attention.q_norm": "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
        "ff_norm": "post_attention_layernorm",
        "ff.gate": "mlp.gate_proj",
        "ff.up": "mlp.up_proj",
        "ff.down": "mlp.down_proj",
    },
)
NAMES: dict[str, Names] = {
    "gpt_neo": Names(
        "transformer.",
        "h",
        _GPT_AROUND,
        {
            **_GPT_WITHIN,
            "attention.q": "attn.attention.q_proj",
            "attention.k": "attn.attention.k_proj",
            "attention.v": "attn.attention.v_proj",
            "attention.out": "attn.attention.out_proj",
        },
    ),
    "gpt2": Names(
        "transformer.",
        "h",
        _GPT_AROUND,
        {
            **_GPT_WITHIN,
            "attention.q": "attn.c_attn",
            "attention.k": "attn.c_attn",
            "attention.v": "attn.c_attn",
            "attention.out": "attn.c_proj",
        },
        transposed=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),  # the class Conv1D
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen3": _LLAMA,
}
# Masks and frequencies that older versions saved with the weights.
_BUFFERS = re.compile(r".*(\.attn\.(attention\.)?(masked_)?bias|\.rotary_emb\.inv_freq)")
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_ROTATED = re.compile(r".*\.attention\.[qk](_norm)?\.(weight|bias)")


def to_file(ours: Tensors, config: ModelConfig, names: Names | None = None) -> dict[str, Tensor]:
    """What the file of a model with these parameters holds, under transformers' names or the `names` given.

    >>> sorted(to_file({"norm.bias": torch.zeros(4)}, ModelConfig(family="gpt2")))       # doctest: +SKIP
    ['transformer.ln_f.bias']
    """
    names = names or NAMES[config.family]
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in ours.items():
        tensor = with_layout(name, tensor, config, names.rope_layout)
        parts.setdefault(names.theirs(name), []).append(tensor)
    stacked = {name: torch.cat(tensors) if len(tensors) > 1 else tensors[0] for name, tensors in parts.items()}
    return {name: (tensor.T if names.is_transposed(name) else tensor).contiguous() for name, tensor in stacked.items()}


def from_file(file: Tensors, like: Tensors, config: ModelConfig, names: Names | None = None) -> dict[str, Tensor]:
    """The parameters `like` these (their names and shapes) in fp32, from a file that holds what `to_file(like)` would.

    Raises:
        CheckpointError: names that are missing or too many, other shapes, numbers that are quantised.
    """
    names = names or NAMES[config.family]
    file = without_extras(file, config, names)
    _check(file, to_file(like, config, names))
    ours, taken = {}, dict.fromkeys(file, 0)
    for name, parameter in like.items():
        theirs = names.theirs(name)
        stacked = file[theirs].T if names.is_transposed(theirs) else file[theirs]
        tensor = stacked[taken[theirs] : taken[theirs] + len(parameter)]
        taken[theirs] += len(parameter)
        ours[name] = with_layout(name, tensor, config, config.rope_layout, names.rope_layout).float().contiguous()
    return ours


def without_extras(file: Tensors, config: ModelConfig, names: Names) -> dict[str, Tensor]:
    """The weights alone, under full names: no buffers, no copy of a tied head."""
    head = f"{names.around['head']}.weight"
    bare = not any(name.startswith(names.base) for name in file)
    weights = {
        f"{names.base}{name}" if bare and name != head else name: tensor
        for name, tensor in file.items()
        if not _BUFFERS.fullmatch(f".{name}")
    }
    if config.tied and head in weights:
        table = weights.get(names.theirs("embedding.weight"))
        if table is None or not weights[head].equal(table):
            raise CheckpointError(f"tie_word_embeddings is true, but {head} is not equal to the embedding table")
        del weights[head]
    return weights


def with_layout(name: str, tensor: Tensor, config: ModelConfig, wanted: str, given: str | None = None) -> Tensor:
    """A parameter of ours with its rotary features in the layout `wanted`; `given`: the one it has, if not the model's.

    What does not rotate comes back as it is.
    """
    if wanted == (given or config.rope_layout) or config.positions != "rotary" or not _ROTATED.fullmatch(name):
        return tensor
    return (in_halves if wanted == "half" else interleaved)(tensor, config.head_dim)


def in_halves(tensor: Tensor, head_dim: int) -> Tensor:
    """Rows of heads with features that rotate together side by side -> the first of each pair, then the second."""
    return tensor.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


def interleaved(tensor: Tensor, head_dim: int) -> Tensor:
    """The inverse of `in_halves`."""
    return tensor.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def _check(file: Tensors, expected: Tensors) -> None:
    if missing := expected.keys() - file.keys():
        raise CheckpointError(f"weights are missing: {_some(missing)}")
    if extra := file.keys() - expected.keys():
        raise CheckpointError(f"weights that the model of config.json does not have: {_some(extra)}")
    for name, tensor in expected.items():
        if file[name].shape != tensor.shape:
            raise CheckpointError(
                f"{name} has the shape {list(file[name].shape)}; config.json asks for {list(tensor.shape)}"
            )
        if file[name].dtype not in _FLOATS:
            raise CheckpointError(f"{name} has the type {file[name].dtype}; storylm reads unquantised weights")


def _some(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first} and {len(rest)} more" if rest else first
