"""`RunConfig`: everything a training run is told, in five groups. Times are in minutes, lengths in tokens."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from storylm.config.base import Settings
from storylm.config.model import ModelConfig

LARGEST_SEED = 2**31 - 1
MOST_PAIRED = 16_384  # tokens whose pairs can be counted: that takes 4 V^2 bytes, and so does all that is made of them
Rate = Annotated[float, Field(ge=0, lt=1)]


class CleaningConfig(Settings):
    """Which rules `data.cleaning` applies, in this order. Every rule counts what it did."""

    mojibake: bool = Field(default=True, description="repair text decoded with the wrong encoding (ftfy)")
    control: bool = Field(default=True, description="remove control characters, byte-order marks and lone surrogates")
    whitespace: bool = Field(
        default=True, description="LF line ends; no runs of spaces, trailing spaces or 3+ line ends"
    )
    fragments: bool = Field(default=True, description="drop stories that start in mid-sentence or are very short")
    truncated: bool = Field(default=True, description="drop stories that stop in mid-sentence")
    exact_duplicates: bool = Field(default=True, description="keep one of stories alike to the letter")
    near_duplicates: bool = Field(
        default=True, description="keep one of stories alike by MinHash of their word 5-grams"
    )
    near_threshold: float = Field(
        default=0.8, gt=0, le=1, description="Jaccard similarity from which stories are near duplicates"
    )
    overlap: bool = Field(
        default=True, description="remove from train what also stands in validation, exactly or nearly"
    )
    min_characters: int = Field(default=30, ge=0, description="shorter stories are fragments")


class DataConfig(Settings):
    """Where stories come from and how they become batches."""

    source: str = Field(default="tinystories", description="a named corpus, a Hub dataset, a file or a folder")
    validation: str | None = Field(
        default=None, description="the same for validation (null: the source's own, or a share)"
    )
    validation_share: float = Field(
        default=0.02, gt=0, lt=0.5, description="share held out where a source has no validation split"
    )
    max_stories: int | None = Field(default=None, ge=1, description="use only the first so many training stories")
    cleaning: CleaningConfig = CleaningConfig()
    format: Literal["stories", "instruct", "derived"] = Field(
        default="stories",
        description="instruct: each story after the order it came with; derived: after one made from the story itself",
    )
    derive_seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="derived: another seed, other orders")
    loss_on: Literal["all", "story"] = Field(
        default="all", description="story: orders are read, but not learned to be told"
    )
    layout: Literal["packed", "padded"] = Field(
        default="packed", description="stories end to end in full rows, or one a row"
    )
    separate_stories: bool = Field(
        default=False, description="packed: no attention between stories, positions start anew in each"
    )
    context: int | None = Field(default=None, ge=2, description="tokens a row (null: the model's context)")


class OptimConfig(Settings):
    """The optimizer and its schedule. A step is one update of the weights."""

    optimizer: Literal["adamw", "adamw8bit", "muon"] = Field(
        default="adamw", description="adamw8bit: moments in 8 bits; muon: hidden matrices by Muon, the rest by AdamW"
    )
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate of AdamW")
    muon_lr: float = Field(default=0.02, gt=0, description="peak learning rate of Muon's matrices")
    muon_decay: float = Field(default=0.01, ge=0, description="decoupled decay of Muon's matrices")
    muon_momentum: float = Field(default=0.95, ge=0, lt=1, description="momentum of Muon")
    embedding_lr: float | None = Field(
        default=None, gt=0, description="peak learning rate of the embeddings (null: lr)"
    )
    head_lr: float | None = Field(
        default=None, gt=0, description="peak learning rate of a head that is not tied (null: embedding_lr)"
    )
    betas: tuple[Rate, Rate] = Field(default=(0.9, 0.95), description="AdamW's decay rates of the moments")
    eps: float = Field(default=1e-8, gt=0, description="AdamW's denominator offset")
    weight_decay: float = Field(default=0.1, ge=0, description="decoupled decay of matrices; never of biases and norms")
    embedding_decay: float | None = Field(
        default=None, ge=0, description="decoupled decay of the embeddings (null: weight_decay)"
    )
    clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm (null: no clipping)")
    schedule: Literal["constant", "linear", "cosine", "wsd"] = Field(
        default="cosine", description="shape after warm-up"
    )
    warmup_steps: int = Field(default=100, ge=0, description="steps of linear warm-up")
    warmup_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of the run instead of warmup_steps; of its minutes after the first step, which may compile",
    )
    decay_share: float = Field(
        default=0.2, gt=0, le=1, description="wsd: the final share of the run in which the rate falls linearly"
    )
    final_lr_ratio: float = Field(default=0.1, ge=0, le=1, description="the rate at the end, as a share of the peak")
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="judge, tell and save a moving average of the weights with this decay (null: off)",
    )

    @model_validator(mode="after")
    def _one_warmup(self) -> "OptimConfig":
        if self.warmup_share is not None and self.warmup_steps != OptimConfig.model_fields["warmup_steps"].default:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} and warmup_share={self.warmup_share} are both set: leave out one"
            )
        return self


class TrainConfig(Settings):
    """How long, how large, and what is kept."""

    steps: int | None = Field(default=None, ge=1, description="optimizer updates (one of steps, epochs, minutes)")
    epochs: float | None = Field(default=None, gt=0, description="passes over the training tokens")
    minutes: float | None = Field(default=None, gt=0, description="wall-clock time, from compiling to the saved result")
    warm_start: Literal["off", "bigrams"] = Field(
        default="off", description="bigrams: begin as a bigram model of the training stories, fitted in seconds"
    )
    batch_size: int = Field(default=32, ge=1, description="rows in one forward pass, at most")
    accumulation: int = Field(
        default=1, ge=1, description="a step is batch_size x accumulation rows, on however many devices"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the device has it and gains by it"
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile; auto: where it is sure to pay"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto", description="several processes: ddp (auto) copies the weights to each, fsdp shares them out"
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads (null: all cores)")
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="of weights, data order, dropout and samples")
    log_every: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    eval_every: int = Field(default=500, ge=0, description="steps between passes over validation (0: only at the end)")
    eval_stories: int | None = Field(
        default=None, ge=1, description="use only the first so many validation stories while training"
    )
    judge_all: bool = Field(
        default=True, description="judge all validation stories once training is over (off: the first eval_stories)"
    )
    save_every: int = Field(default=500, ge=0, description="steps between checkpoints (0: only at the end)")
    save_minutes: float | None = Field(
        default=10.0, gt=0, description="minutes between checkpoints, whichever comes first"
    )
    sample_every: int = Field(default=500, ge=0, description="steps between sample stories (0: only at the end)")
    sample_prompts: tuple[str, ...] = Field(
        default=("Once upon a time", "One day, a little girl"), description="beginnings of samples"
    )
    keep_every: int | None = Field(default=None, ge=1, description="keep a checkpoint for good every so many steps")
    keep_log_spaced: bool = Field(
        default=False, description="keep checkpoints at steps 1, 2, 4, 8, ... for the study of training"
    )
    patience: int | None = Field(default=None, ge=1, description="stop after so many evaluations without gain")
    max_bad_steps: int = Field(default=10, ge=1, description="stop after so many non-finite steps in a row")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        given = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} are both set: say how long to train in one of them, null in the others"
            )
        return self


class TrackConfig(Settings):
    """Where metrics go besides metrics.jsonl and the console."""

    plot: bool = Field(default=True, description="loss.png in the run folder (with storylm[report])")
    tensorboard: bool = Field(default=False, description="event files in the run folder")
    wandb: str | None = Field(default=None, description="project name on Weights & Biases")
    trackio: str | None = Field(default=None, description="project name in trackio")


class RunConfig(Settings):
    """A whole run. `storylm config PRESET` prints one with the origin of every value."""

    name: str = Field(default="custom", description="preset or run name")
    about: str = Field(default="", description="where the preset comes from, in a sentence")
    tokenizer: str = Field(
        default="bpe",
        description="bpe (own, of model.vocab_size), gpt2, mistral, bytes, a file, a folder or a Hub id",
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    track: TrackConfig = TrackConfig()

    @model_validator(mode="after")
    def _fits(self) -> "RunConfig":
        if self.data.context is not None and self.data.context > self.model.context:
            raise ValueError(f"data.context={self.data.context} is longer than model.context={self.model.context}")
        return self

    @model_validator(mode="after")
    def _can_start_warm(self) -> "RunConfig":
        model = self.model
        wanted = {
            "model.tied=false": not model.tied,
            "model.init_outputs=zero": model.init_outputs == "zero",
            "model.norm=rmsnorm": model.norm == "rmsnorm",
            "model.positions=rotary": model.positions != "learned",
            f"model.vocab_size={MOST_PAIRED}, at most": model.vocab_size <= MOST_PAIRED,
            f"model.width={model.vocab_size}, at most": model.width <= model.vocab_size,
        }
        missing = [setting for setting, there in wanted.items() if not there]
        if self.train.warm_start == "bigrams" and missing:
            raise ValueError(f"train.warm_start=bigrams needs {' and '.join(missing)}")
        return self

    @property
    def row_length(self) -> int:
        """Tokens in a full training row."""
        return self.data.context or self.model.context
