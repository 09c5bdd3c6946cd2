"""What is answered, as the OpenAPI description tells it: the shapes of OpenAI's API, and what this server adds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Logprobs(_Answer):
    """Of the tokens of a choice, or of those that are new in a piece of a stream, one after another."""

    tokens: list[str] = Field(description=r"text, or bytes:\xe2\x80 where a token is no text of its own")
    token_logprobs: list[float | None] = Field(description="nats; null for a prompt's first token")
    top_logprobs: list[dict[str, float] | None] = Field(description="the likeliest in its place, and itself")
    text_offset: list[int] = Field(description="where in `text` it begins, in Unicode code points")


class Choice(_Answer):
    """A story."""

    index: int
    text: str
    logprobs: Logprobs | None = Field(description="where they are asked for")
    token_ids: list[int] = Field(default=[], description="of the tokens in `logprobs`, where these are asked for")
    finish_reason: Literal["stop", "length"] | None = Field(description="null in all pieces of a stream but the last")


class Usage(_Answer):
    """Tokens read, start tokens included, and told, with those that ended a story."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(_Answer):
    """Stories; of a stream a piece of one, and of its usage none."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="seconds since 1970")
    model: str
    choices: list[Choice]
    usage: Usage | None = Field(
        default=None, description="in a stream, in its last piece if `stream_options` ask for it"
    )


class Attention(_Answer):
    """How the attention of the token at place `token` is shared out over `tokens`."""

    tokens: list[str]
    spans: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = Field(
        description="the characters, from and to in Unicode code points, that each token stands for in the prompt and "
        "what is told after it; one of several tokens is in the span of each, and special tokens have empty ones"
    )
    token: int
    weights: list[list[list[float]]] = Field(description="[layers][heads][tokens]; 0 for those that it cannot see")


class Model(_Answer):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    context: int = Field(description="the most tokens of a story, prompt and start token included")
    parameters: int


class Models(_Answer):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class Health(_Answer):
    """Whether there is anyone."""

    status: Literal["ok"]


class Broken(_Answer):
    """Of `/health`, where something has failed for good."""

    status: Literal["broken"]
    broken: list[str]


Responses = dict[int | str, dict[str, Any]]
_EVENT = {  # each of them, as OpenAPI 3.2 does it
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {"type": "string", "description": "a Completion as JSON, or an error; of the last event `[DONE]`"}
    },
}
COMPLETIONS: Responses = {
    200: {
        "model": Completion,
        "description": "the stories, whole or with `stream` in pieces",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}
ATTENTION: Responses = {200: {"model": Attention, "description": "the attention"}}
MODELS: Responses = {200: {"model": Models, "description": "the models"}}
HEALTH: Responses = {
    200: {"model": Health, "description": "all that is served can be told"},
    503: {"model": Broken, "description": "these models, or the batcher, have failed for good"},
}
METRICS: Responses = {200: {"description": "figures, as Prometheus reads them"}}
