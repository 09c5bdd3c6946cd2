import pytest
import torch

from generation.conftest import SHAPE, LetterTokenizer, build
from storylm.config.errors import CheckpointError, UsageError
from storylm.config.model import ModelConfig
from storylm.generation.engine import generate, stream, tell
from storylm.generation.sampling import Sampling

PROMPTS = ["Once upon a time", "", "A cat", "One day, a little girl 🙂"]


def plain(model, tokenizer: LetterTokenizer, prompt: str, new_tokens: int) -> list[int]:
    """Greedy decoding as a textbook has it: the whole text through the model for every token."""
    ids = [tokenizer.start_id, *tokenizer.encode(prompt)]
    told: list[int] = []
    model.eval()
    while len(told) < new_tokens and len(ids) <= model.config.context:
        with torch.inference_mode():
            logits = model(torch.tensor([ids]))[0, -1, : tokenizer.vocab_size]
        token = int(logits.argmax())
        if token in (tokenizer.start_id, tokenizer.end_id):
            break
        ids.append(token)
        told.append(token)
    return told


def test_greedy_is_the_likeliest_token_of_a_full_pass_every_time(model, letters, by):
    told = generate(model, letters, PROMPTS, temperature=0, max_new_tokens=30)
    for prompt, story in zip(PROMPTS, told, strict=True):
        expected = letters.decode(plain(model, letters, prompt, 30))
        assert story == prompt + expected
    assert max(len(story) for story in told) > 12  # past every window


def test_the_same_seed_tells_the_same_story_whatever_is_beside_it(model, letters, by):
    check_same_seed_same_story(model, letters, {"top_p": 0.95})


@pytest.mark.parametrize("settings", [{}, {"top_k": 40}, {"repetition_penalty": 1.3, "min_p": 0.01}])
def test_so_it_does_with_every_setting(flat, letters, settings, by):
    check_same_seed_same_story(flat, letters, settings)


def check_same_seed_same_story(model, letters, settings):
    settings = {**settings, "temperature": 1.0, "max_new_tokens": 25, "seed": 3, "samples": 2}
    together = generate(model, letters, PROMPTS, **settings)
    assert together == generate(model, letters, PROMPTS, batch_size=3, **settings)
    assert together == generate(model, letters, PROMPTS, batch_size=1, **settings)
    backwards = generate(model, letters, PROMPTS[::-1], **settings)
    assert together == [story for at in (6, 4, 2, 0) for story in backwards[at : at + 2]]
    del settings["samples"]
    assert together[0::2] == [generate(model, letters, prompt, **settings)[0] for prompt in PROMPTS]
    assert together[0::2] == ["".join(stream(model, letters, prompt, **settings)) for prompt in PROMPTS]
    settings["seed"] += 1
    assert together[1::2] == generate(model, letters, PROMPTS, **settings)
    assert together[0::2] != together[1::2]


@pytest.fixture
def flat(letters) -> torch.nn.Module:
    """A model that finds all tokens about equally likely, so that everything comes."""
    return build(ModelConfig(**{**SHAPE, "family": "gpt2", "init_std": 0.02, "vocab_size": 258}))


def told_to_say(model, words: str, tokenizer: LetterTokenizer, last: int | None = None):
    """The model, made to say `words` after the start token whatever it reads, and then `last`: no attention needed."""
    ids = [tokenizer.start_id, *tokenizer.encode(words), tokenizer.end_id if last is None else last]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        width = model.config.width
        directions = torch.nn.functional.normalize(
            torch.randn(len(ids), width, generator=torch.Generator().manual_seed(1)), dim=1
        )
        model.positions.table.weight[: len(ids)] = directions
        model.norm.weight.fill_(1)
        head = torch.zeros(model.config.vocab_size, width)
        for position, token in enumerate(ids[1:]):
            head[token] += directions[position]
        model.head = torch.nn.Linear(width, model.config.vocab_size, bias=False)
        model.head.weight.copy_(head)
    return model


@pytest.fixture
def parrot(letters):
    """Says "abc def ghi", then ends."""
    config = ModelConfig(**{**SHAPE, "family": "gpt2", "width": 64, "tied": False})
    return told_to_say(build(config), "abc def ghi", letters)


def test_a_story_ends_at_its_end_token(parrot, letters):
    (story,) = tell(parrot, letters, "", Sampling(temperature=0))
    assert (story.text, story.ended, story.tokens) == ("abc def ghi", "end", 12)
    # The start token ends a story too: where the two differ, it would begin the next one.
    told_to_say(parrot, "abc", letters, last=letters.start_id)
    (story,) = tell(parrot, letters, "", Sampling(temperature=0))
    assert (story.text, story.ended, story.tokens) == ("abc", "end", 4)


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("def", "abc "),
        (["zzz", "c d"], "ab"),
        (["i", "gh"], "abc def "),
        (["f g", "def"], "abc "),
        ("hi!", "abc def ghi"),  # begins at the end, but never comes
        ("a", ""),
    ],
)
def test_a_story_ends_before_a_stop_string(parrot, letters, stop, text):
    (story,) = tell(parrot, letters, "", Sampling(temperature=0), stop=stop)
    assert (story.text, story.ended) == (text, "end" if text.endswith("ghi") else "stop")
    assert "".join(stream(parrot, letters, "", temperature=0, stop=stop)) == text


def test_a_story_that_is_over_makes_room_for_the_next(flat, letters):
    heard: list[int] = []
    stories = tell(
        flat,
        letters,
        ["a"] * 40,
        Sampling(temperature=1.0),
        max_new_tokens=30,
        batch_size=4,
        on_text=lambda number, text: heard.append(number),
    )
    assert [story.ended for story in stories].count(None) == 0
    begun = [heard.index(number) for number in range(40) if number in heard]
    ended = [len(heard) - heard[::-1].index(number) for number in range(40) if number in heard]
    # Never more than four between their first piece and their last; and it does not wait for four to be over.
    alive = [
        sum(begin <= moment < end for begin, end in zip(begun, ended, strict=True)) for moment in range(len(heard))
    ]
    assert max(alive) == 4
    assert sum(count == 4 for count in alive) > 0.8 * len(heard)


def test_a_stop_string_in_the_prompt_stops_nothing(parrot, letters):
    parrot = told_to_say(parrot, "??? tail", letters)
    assert generate(parrot, letters, "???", temperature=0, stop="???") == ["??? tail"]


def test_max_new_tokens_and_a_full_context_end_a_story(flat, letters):
    stories = tell(flat, letters, ["abc", "ab" * 20], Sampling(temperature=1.0), max_new_tokens=20, samples=5)
    short, long = stories[:5], stories[5:]
    assert {(story.ended, story.tokens) for story in short if story.ended != "end"} == {("length", 20)}
    # 41 of 48 positions are taken; the token drawn after the last one is told too.
    assert {(story.ended, story.tokens) for story in long if story.ended != "end"} == {("context", 8)}
    assert len({story.text for story in stories}) == 10


def test_a_prompt_longer_than_the_context_is_refused_or_cut_on_the_left(model, letters):
    prompt = "Once upon a time there was a story that was far too long to be read."
    with pytest.raises(
        UsageError, match=rf"prompt is {len(prompt) + 1} tokens but .* context is 48: .*--truncate left"
    ):
        generate(model, letters, ["short", prompt])
    assert len(generate(model, letters, "x" * 47, max_new_tokens=1)[0]) <= 48
    settings = {"temperature": 0, "max_new_tokens": 10, "truncate": "left"}
    (story,) = generate(model, letters, prompt, **settings)
    assert story.startswith(prompt)
    # 38 tokens of the prompt are read, which leaves room for 10; never less than half the context.
    (told,) = tell(model, letters, prompt, Sampling(temperature=0), max_new_tokens=10, truncate="left")
    assert bytes(told.prompt_ids).decode() == prompt[-38:]
    assert len(tell(model, letters, prompt, Sampling(), max_new_tokens=99, truncate="left")[0].prompt_ids) == 24
    assert generate(model, letters, "short", **settings) == generate(
        model, letters, "short", **settings | {"truncate": None}
    )


def test_text_comes_in_whole_characters(flat, letters):
    for seed in range(8):
        pieces = list(stream(flat, letters, "é", seed=seed, temperature=1.0, max_new_tokens=40))
        assert "".join(pieces) == generate(flat, letters, "é", seed=seed, temperature=1.0, max_new_tokens=40)[0]
        assert all(pieces[1:])  # never an empty piece
    heard: dict[int, str] = {}
    stories = generate(
        flat,
        letters,
        ["a", "b"],
        samples=2,
        batch_size=3,
        temperature=1.0,
        on_text=lambda number, text: heard.update({number: heard.get(number, "") + text}),
    )
    assert [prompt + heard.get(number, "") for number, prompt in enumerate("aabb")] == stories


def test_a_character_of_several_tokens_comes_in_one_piece(parrot, letters):
    parrot = told_to_say(parrot, "a🙂é!", letters)
    assert list(stream(parrot, letters, "", temperature=0)) == ["", "a", "🙂", "é", "!"]


def test_the_repetition_penalty_knows_the_prompt_and_what_was_told(parrot, letters):
    parrot = told_to_say(parrot, "aaaaaaaa", letters)
    assert generate(parrot, letters, "", temperature=0, max_new_tokens=3) == ["aaa"]
    story = generate(parrot, letters, "", temperature=0, max_new_tokens=3, repetition_penalty=1e9)[0]
    assert story.startswith("a")
    assert not story.startswith("aa")
    assert not generate(parrot, letters, "a", temperature=0, max_new_tokens=1, repetition_penalty=1e9)[0].endswith("aa")


def test_padding_behind_a_shorter_prompt_was_never_seen(parrot, letters):
    parrot = told_to_say(parrot, "\0", letters)  # token 0, which fills up the shorter row
    parrot.head.weight.data[ord("z")] = parrot.head.weight.data[0] / 2  # what it would say were that one penalised
    assert generate(parrot, letters, ["", "abc"], temperature=0, max_new_tokens=1, repetition_penalty=1e9)[0] == "\0"


def test_rows_of_the_model_without_a_token_are_never_drawn(letters):
    model = build(ModelConfig(**{**SHAPE, "family": "gpt2", "init_std": 0.001, "vocab_size": 3000}))
    told = tell(model, letters, ["a"] * 20, Sampling(temperature=1.0), max_new_tokens=40)
    assert sum(story.tokens for story in told) > 300  # 9 in 10 draws would be others'


def test_the_model_is_left_as_it_was(model, letters):
    model.train()
    generate(model, letters, "a", max_new_tokens=3)
    assert model.training
    pieces = stream(model, letters, "a", max_new_tokens=3)
    next(pieces), next(pieces)
    pieces.close()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    model.eval()
    generate(model, letters, "a", max_new_tokens=3)
    assert not model.training


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"samples": 0}, "samples=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"precision": "int4"}, "precision='int4' .* fp32, bf16, int8"),
        ({"truncate": "right"}, "truncate='right'"),
        ({"stop": ["a", ""]}, "stop string is empty"),
        ({"temperature": -1}, "temperature=-1"),
    ],
)
def test_mistakes_say_what_is_allowed(model, letters, wrong, words):
    with pytest.raises(UsageError, match=words):
        generate(model, letters, "a", **wrong)


def test_errors_come_before_the_first_piece(model, letters):
    with pytest.raises(UsageError, match="context"):
        stream(model, letters, "a" * 99)


def test_a_tokenizer_of_another_model_is_refused(letters):
    small = build(ModelConfig(**{**SHAPE, "family": "gpt2", "vocab_size": 100}))
    with pytest.raises(CheckpointError, match="258 tokens but the model only 100"):
        generate(small, letters, "a")


def test_no_prompts_no_stories(model, letters):
    assert generate(model, letters, []) == []
