"""What other programs ask of a folder of transformers' kind, which is the format that all models are saved in."""

from storylm.config.model import ModelConfig
from storylm.text.tokenizer import Tokenizer

# vLLM: heads that its attention kernels are built for, families that it has a class for, and the rows of a vocabulary
# that several GPUs can share out.
VLLM_WIDTHS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)
VLLM_FAMILIES = ("gpt2", "llama", "mistral", "qwen3")
VLLM_ROWS = 64


def check_hf(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """A warning for each thing that vLLM will not have; transformers loads whatever could be saved."""
    notes = []
    if config.family not in VLLM_FAMILIES:
        notes.append(f"vLLM has no class for {config.family}: it has for {', '.join(VLLM_FAMILIES)}")
    if config.head_dim not in VLLM_WIDTHS:
        notes.append(
            f"vLLM does not take heads of width {config.head_dim}: it takes {', '.join(map(str, VLLM_WIDTHS))}"
        )
    if config.vocab_size % VLLM_ROWS:
        padded = -(-config.vocab_size // VLLM_ROWS) * VLLM_ROWS
        notes.append(
            f"vLLM wants a vocabulary that is a multiple of {VLLM_ROWS}, not {config.vocab_size}: train with "
            f"model.vocab_size={padded}"
        )
    return notes


def check_int8(config: ModelConfig, tokenizer: Tokenizer | None) -> list[str]:
    """Who reads it."""
    return ["transformers and other programs refuse such a folder: it is for storylm alone"]
