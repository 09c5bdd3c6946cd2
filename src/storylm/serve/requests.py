"""What may be asked for: OpenAI's completions, with every field bounded, and what this server adds to them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_STORIES = 64  # prompts times n of a request
Token = Annotated[int, Field(ge=0, lt=2**31)]
Ids = Annotated[list[Token], Field(min_length=1, max_length=65_536)]
Text = Annotated[str, Field(max_length=1 << 20)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=False)


class StreamOptions(_Strict):
    """What a stream ends with."""

    include_usage: bool = False


class CompletionRequest(_Strict):
    """The body of POST /v1/completions. Fields that would change nothing here take their neutral value alone."""

    model: Annotated[str, Field(max_length=256, description="one of GET /v1/models")]
    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_STORIES)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_STORIES)]
    ) = Field(default="", description="one or several beginnings, as text or as token ids")
    max_tokens: int | None = Field(default=16, ge=0, le=65_536, description="at most so many new tokens")
    temperature: float | None = Field(default=1.0, ge=0, le=100)
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    n: int | None = Field(default=1, ge=1, le=MAX_STORIES, description="stories to a prompt: seeds seed, seed+1, ...")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20, description="so many alternatives to each token")
    echo: bool | None = Field(default=False, description="the prompt, too, with its logprobs where these are asked for")
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="the same seed, the same story")
    user: Annotated[str, Field(max_length=256)] | None = None
    best_of: Literal[1] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None
    top_k: int | None = Field(default=None, ge=1, le=2**31 - 1, description="draw from the k likeliest")
    min_p: float | None = Field(default=None, ge=0, le=1, description="at least so likely, against the likeliest")
    repetition_penalty: float | None = Field(default=1.0, gt=0, le=100, description="above 1: less of what came before")

    @model_validator(mode="after")
    def _bounded(self) -> "CompletionRequest":
        if len(self.prompts) * (self.n or 1) > MAX_STORIES:
            raise ValueError(
                f"{len(self.prompts)} prompts times n={self.n}: at most {MAX_STORIES} stories to a request"
            )
        return self

    @property
    def prompts(self) -> list[Any]:
        """The prompts one by one, each a text or a list of ids."""
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]
        return list(self.prompt)

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())


class AttentionRequest(_Strict):
    """The body of POST /v1/attention."""

    model: Annotated[str, Field(max_length=256)]
    prompt: Text | Ids
    token_ids: Annotated[list[Token], Field(max_length=65_536)] = Field(
        default=[], description="what was told after the prompt, as completions with `logprobs` have it"
    )
    token: int | None = Field(default=None, ge=0, description="whose attention; the last one's unless given")
