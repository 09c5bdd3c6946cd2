"""Where the tokens of a prompt, and those told after it, stand in the text of both."""

from storylm.text.pieces import Span, Spans
from storylm.text.tokenizer import Tokenizer


class Places:
    """Characters, as code points, of the text that is a prompt as it was given and what is told after it.

    `prompt` has those of its tokens, `ids`; those of the tokens after it come by `add`.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: str, ids: list[int]):
        self._spans = Spans(tokenizer.pieces)
        self.prompt = [self._spans.add(id) for id in ids]
        if tokenizer.decode(ids) != prompt:  # of several spaces the tokenizer made one, say
            own = [(first, end) for first, end in tokenizer.spans([prompt])[0].tolist()]
            self.prompt = [(0, 0)] * (len(ids) - len(own)) + own
        self._shift = len(prompt) - self._spans.length

    def add(self, token: int) -> Span:
        """Where the next token that is told stands."""
        first, end = self._spans.add(token)
        return first + self._shift, end + self._shift
