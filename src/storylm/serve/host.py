"""A model that is served."""

from typing import TYPE_CHECKING

from storylm.config.errors import UsageError
from storylm.generation.decoder import Decoder
from storylm.generation.reading import build_reader
from storylm.model.transformer import Transformer
from storylm.serve.scoring import Scoring
from storylm.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from storylm.serve.batcher import Job


class Host:
    """A model, its name, its tokenizer, and a decoder with so many slots, in which prompts are scored, too.

    It is `broken` where it failed and could not begin anew.
    """

    def __init__(self, name: str, model: Transformer, tokenizer: Tokenizer, slots: int, precision: str = "fp32"):
        self.name, self.model, self.tokenizer, self.broken = name, model.eval(), tokenizer, False
        self._open = lambda: build_reader(model, slots, model.config.context, precision)
        self.reopen()

    @property
    def running(self) -> int:
        """Stories that have a slot."""
        return 0 if self.decoder is None else self.decoder.running

    @property
    def to_score(self) -> "list[Job]":
        """Those whose prompts are to be scored."""
        return [] if self.scoring is None else list(self.scoring.jobs)

    def reopen(self) -> None:
        """Begin with an empty decoder, and none to be scored: after a failure nobody knows what is in the old one.

        Raises whatever keeps it from that.
        """
        self.decoder: Decoder | None = None  # its memory first: there may not be enough for two
        self.scoring: Scoring | None = None
        try:
            reader, vocabulary = self._open(), self.tokenizer.vocab_size
            self.decoder = Decoder(reader, vocabulary)
            self.scoring = Scoring(self.decoder, reader, vocabulary)
        except BaseException:
            self.broken = True
            raise

    def check_length(self, prompt: str) -> None:
        """Raises `UsageError` where a text cannot fit the context, whatever tokens it is: sooner than it is cut."""
        context, longest = self.model.config.context, self.tokenizer.longest
        if longest is None or len(prompt) <= (context - 1) * longest:  # a character is a byte or more
            return
        raise UsageError(
            f"prompt is at least {1 - -len(prompt) // longest} tokens but the model's context is {context}: "
            f"leave out its beginning, so that {context - 1} remain"
        )
