"""Orders: what stands before stories is read from records or derived, prepared, left out of the loss, and told from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.telling import call
from storylm.cli import options
from storylm.cli.prepare import prepare as prepare_command
from storylm.config.errors import DataError, UsageError
from storylm.config.load import resolve
from storylm.data.batches import IGNORED, PackedBatches, PaddedBatches
from storylm.data.derive import candidates, derived
from storylm.data.instruct import Order, Ordered, order_in, order_of
from storylm.data.orders import Orders
from storylm.data.prepare import prepare, prepare_cached
from storylm.data.prepared import Prepared
from storylm.data.sources import open_source
from storylm.data.text_records import story_record
from storylm.evaluation.corpus import Corpus
from storylm.evaluation.instructions import Instruction
from storylm.evaluation.likelihood import evaluate
from storylm.generation.telling import read_prompt
from storylm.model.loss import next_token_loss
from storylm.model.store import load
from storylm.training.run import build_batches, new_model, train_run

RECORDS = [
    "Features: Dialogue\nWords: sun, run\nSummary: Number {n}\nruns.\nStory: \n\nOnce came number {n}. It ran far.",
    "Random sentence: It sat.\nStory: \n\nThere was a cat, the {n}th of all. It sat. It was happy there.",
    "Words:  big ,dog\nStory: \n\nThe big dog number {n} saw a hat and ate it at once.",
]
STORIES = [record.replace("{n}", str(n)) for n in range(12) for record in RECORDS]
SETTINGS = ("data.cleaning.near_duplicates=false", "data.validation_share=0.2")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "instruct.txt"
    path.write_text("\n<|endoftext|>\n".join(STORIES), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module", params=["bytes", "bpe", "mistral"])
def prepared(request, corpus, tmp_path_factory) -> Prepared:
    """With the last tokenizer stories begin with a token of its own; with others, with the end token."""
    name = request.param
    if name == "mistral":
        name = str(request.getfixturevalue("shared") / "reference" / "mistral")
    cleaning, out = resolve(None, None, [*SETTINGS]).config.data.cleaning, tmp_path_factory.mktemp("out") / name[-7:]
    settings = {"vocab_size": 400} if name == "bpe" else {}
    made = prepare(corpus, name, out, cleaning, validation_share=0.2, orders=Orders("instruct"), **settings)
    assert (made.tokenizer.start_id == made.tokenizer.end_id) == (request.param != "mistral")
    return made


def tiny(source: Prepared | Path | str, *more: str):
    made = isinstance(source, Prepared)
    return resolve(
        None,
        None,
        [
            f"data.source={source.folder if made else source}",
            f"model.vocab_size={source.tokenizer.vocab_size if made else 512}",
            "model.context=192",
            "model.layers=2",
            "model.width=32",
            "model.heads=2",
            "train.batch_size=4",
            "train.device=cpu",
            "train.precision=fp32",
            "train.compile=off",
            "optim.warmup_steps=2",
            *more,
        ],
    ).config


# -- orders -----------------------------------------------------------------------------------------------


def test_every_line_of_a_record_comes_back_in_one_form():
    record = story_record(STORIES[0])
    assert order_in(record.fields).prompt == (
        "Features: Dialogue\nWords: sun, run\nSummary: Number 0 runs.\nStory: \n\n"
    )
    again = story_record(order_in(record.fields).prompt + record.text)
    assert order_in(again.fields) == order_in(record.fields)
    assert again.text == record.text


@pytest.mark.parametrize("fields", [{"words": 7}, {"words": None, "features": [None, 3]}, {"instruction": "no"}, {}])
def test_fields_of_another_kind_order_nothing(fields):
    assert order_in(fields) == Order()


def test_a_piece_of_an_ordered_story_has_no_order():
    story = Ordered("Once. Twice.", "Story: \n\n")
    assert (story, order_of(story), order_of(story[:5]), json.dumps(story)) == (
        "Once. Twice.",
        "Story: \n\n",
        "",
        '"Once. Twice."',
    )


def fulfils(story: str, seed: int) -> dict[str, bool]:
    return Instruction(**vars(derived(story, seed))).check(story)


def test_a_derived_order_is_fulfilled_by_its_story(valid_stories):
    met = [met for story in valid_stories[:300] for met in fulfils(story, 1).items()]
    assert len(met) > 600
    assert {name.split()[0] for name, _ in met} == {"word", "sentence", "dialogue", "moral"}
    assert [name for name, holds in met if not holds] == []


def test_most_real_stories_have_a_verb_a_noun_and_an_adjective(valid_stories):
    found = [candidates(story) for story in valid_stories[:300]]
    for kind in ("verb", "noun", "adjective"):
        assert sum(bool(words[kind]) for words in found) > 280, kind


def test_places_tell_the_kind_of_a_word():
    found = candidates("Tim wanted to fly. The red kite danced, and his old friend was sad. He could not see.")
    assert found == {"verb": ["fly"], "noun": ["friend"], "adjective": ["old", "sad"]}


def test_deriving_is_a_function_of_story_and_seed():
    stories = [record.text for record in open_source("grammar?stories=40").stories("train")]
    first, again, other = ([derived(story, seed) for story in stories] for seed in (0, 0, 1))
    assert first == again
    assert sum(a != b for a, b in zip(first, other, strict=True)) > 20
    assert len({frozenset(k for k, v in vars(order).items() if v) for order in first}) > 3  # not always the same lines


# -- preparing --------------------------------------------------------------------------------------------


def test_a_prepared_story_is_its_order_and_then_itself(prepared):
    by_story = {record.text: order_in(record.fields).prompt for record in map(story_record, STORIES)}
    tokenizer, tokens = prepared.tokenizer, prepared.split("train")
    *before, end = tokenizer.story_ids([])
    assert tokens.stories + prepared.stories("validation") == len(STORIES)
    starts = tokens.story_starts
    for start, begin, after in zip(starts[:-1], tokens.story_begins, starts[1:], strict=True):
        story = tokenizer.decode(tokens.window(begin, after - begin - 1))
        asked = tokenizer.encode(by_story[story])
        assert tokens.window(start, begin - start).tolist() == [*before, *asked]
        assert tokens.window(begin, after - begin).tolist() == [*tokenizer.encode(story), end]


def test_validation_stories_keep_their_orders(prepared):
    by_story = {record.text: order_in(record.fields).prompt for record in map(story_record, STORIES)}
    stories = prepared.validation_stories()
    assert stories
    assert {story: order_of(story) for story in stories}.items() <= by_story.items()
    size = sum(len((order_of(story) + story).encode()) for story in stories)
    assert prepared.bytes("validation") == size


def test_what_is_told_from_is_what_was_trained_on(prepared):
    """`storylm generate --words ...` gives the model exactly the tokens that stood before such a story."""
    prompt = options.read_order("sun, run", "Dialogue", "Number 3 runs.", None)
    assert prompt is not None
    model = new_model(tiny(prepared))
    given = read_prompt(model, prepared.tokenizer, prompt, 10, None)
    tokens = prepared.split("train")
    seen = [
        [prepared.tokenizer.start_id, *tokens.window(start, begin - start).tolist()][-len(given) :]
        for start, begin in zip(tokens.story_starts[:-1], tokens.story_begins, strict=True)
    ]
    assert given in seen
    # The line break before a story may not be read as one with it: so order and story are encoded apart.
    assert len(given) == 1 + len(prepared.tokenizer.encode(prompt))


def test_preparing_again_with_other_orders_is_refused(prepared, corpus):
    cleaning = resolve(None, None, [*SETTINGS]).config.data.cleaning
    with pytest.raises(UsageError, match="prepared otherwise"):
        prepare(corpus, prepared.tokenizer, prepared.folder, cleaning, validation_share=0.2)


def test_stories_without_orders_are_refused_where_these_are_wanted(tmp_path):
    with pytest.raises(DataError, match=r"--derive-instruct"):
        prepare("grammar?stories=20", "bytes", tmp_path / "out", orders=Orders("instruct"))


def test_the_same_stories_with_and_without_orders_are_prepared_apart():
    def made(form: str):
        return prepare_cached(
            tiny("grammar?stories=60&validation=9", "tokenizer=bytes", f"data.format={form}"), quiet=True
        )

    plain, with_orders = made("stories"), made("derived")
    assert plain.folder != with_orders.folder
    assert [str(story) for story in with_orders.validation_stories()] == plain.validation_stories()
    assert not plain.split("train").has_orders
    assert with_orders.manifest["settings"]["orders"] == "derived, seed 0"


def test_a_folder_of_before_there_were_orders_is_as_good_as_ever(tmp_path):
    out = tmp_path / "old"
    before = prepare("grammar?stories=30", "bytes", out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"].pop("orders") is None
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert prepare("grammar?stories=30", "bytes", out).split("train").tokens == before.split("train").tokens
    config = tiny(out, "data.loss_on=story")
    with pytest.raises(UsageError, match="these have no orders"):
        build_batches(config, prepare_cached(config, quiet=True))
    with pytest.raises(UsageError, match=r"data\.format decides"):
        prepare_cached(tiny(out, "data.format=instruct"), quiet=True)


def test_command_line_derives_and_refuses(tmp_path):
    out = tmp_path / "out"
    done = call(prepare_command, "grammar?stories=30", "--tokenizer", "bytes", "--out", out, "--derive-instruct")
    assert "storylm train" in done.stdout
    assert Prepared.load(out, verify=True).split("train").has_orders
    for wrong in (["--instruct", "--derive-instruct"], ["--seed", "3"]):
        with pytest.raises(UsageError):
            call(prepare_command, "grammar?stories=30", "--out", tmp_path / "other", *wrong)


# -- the loss ---------------------------------------------------------------------------------------------


def targets_by_hand(prepared: Prepared, batch) -> torch.Tensor:
    """Of a batch of `loss_on=all`, padded: a story's row without the targets that are its order, found in the text."""
    targets = batch.targets_BT.clone()
    for row in targets:
        ids = row.tolist()
        row[: next(i for i in range(len(ids)) if prepared.tokenizer.decode(ids[:i]).endswith("Story: \n\n"))] = IGNORED
    return targets


def gradients(config, batch, targets_BT) -> list[torch.Tensor]:
    model = new_model(config)
    hidden_BTD = model.hidden(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
    next_token_loss(hidden_BTD, model.head_weight, targets_BT)[0].backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_gradients_are_those_of_a_mask_written_by_hand(prepared):
    config = tiny(prepared, "data.layout=padded", "data.loss_on=story")
    masked = build_batches(config, prepared)
    whole = build_batches(tiny(prepared, "data.layout=padded"), prepared)
    for step in (0, 3):
        batch, everything = masked.batch(step), whole.batch(step)
        assert torch.equal(batch.tokens_BT, everything.tokens_BT)  # the order is read
        by_hand = targets_by_hand(prepared, everything)
        ours, hand = gradients(config, batch, batch.targets_BT), gradients(config, everything, by_hand)
        assert all(torch.equal(a, b) for a, b in zip(ours, hand, strict=True))
        of_all = gradients(config, everything, everything.targets_BT)
        assert not any(torch.equal(a, b) for a, b in zip(ours, of_all, strict=True))


@pytest.mark.parametrize("layout", [PackedBatches, PaddedBatches])
@pytest.mark.parametrize("context", [7, 40])
def test_an_epoch_learns_what_is_told_and_nothing_of_the_orders(prepared, layout, context):
    tokens = prepared.split("train")
    ends = tokens.story_starts[1:]
    told = [tokens.window(b, e - b) for b, e in zip(tokens.story_begins, ends, strict=True)]
    expected = np.bincount(np.concatenate(told), minlength=32000)
    batches = layout(tokens, context=context, batch_size=3, loss_on="story", seed=5)
    first, end = batches.rows_per_epoch, 2 * batches.rows_per_epoch
    targets = [batches.batch(row // 3).targets_BT[row % 3].numpy() for row in range(first, end)]
    shown = np.bincount(np.concatenate([row[row != IGNORED] for row in targets]), minlength=32000)
    assert np.array_equal(shown, expected)
    assert batches.tokens_per_epoch == expected.sum()


def test_bits_per_byte_are_of_the_story_given_its_order(prepared):
    config = tiny(prepared)
    model = new_model(config)
    for number, weight in enumerate(model.parameters()):  # so large that what is read matters
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(number))
    tokenizer, stories = prepared.tokenizer, prepared.validation_stories()
    nats = 0.0
    for story in stories:
        asked, ids = tokenizer.encode(order_of(story)), tokenizer.encode(story)
        stream = torch.tensor([[tokenizer.start_id, *asked, *ids]])
        log_p = torch.log_softmax(model(stream)[0, :-1], dim=-1)[range(len(asked) + len(ids)), stream[0, 1:]]
        nats -= float(log_p[len(asked) :].detach().double().sum())
    found = evaluate(model, tokenizer, stories)
    assert found.nats == pytest.approx(nats, rel=1e-6)
    assert found.bytes == sum(len(story.encode()) for story in stories)
    assert found.nats != pytest.approx(evaluate(model, tokenizer, [str(story) for story in stories]).nats, rel=5e-6)
    strided = evaluate(model, tokenizer, stories, stride=model.config.context)
    assert strided.tokens == found.tokens == sum(len(tokenizer.encode(story)) for story in stories)


def test_an_order_that_fills_the_context_leaves_no_story_to_score(prepared):
    model = new_model(tiny(prepared))
    long = Ordered("Once there was a cat.", "Words: sun\n" * 60)
    both = evaluate(model, prepared.tokenizer, [long, "A cat sat."])
    alone = evaluate(model, prepared.tokenizer, ["A cat sat."])
    assert (both.nats, both.bytes, both.truncated_stories) == (pytest.approx(alone.nats), alone.bytes, 1)
    strided = evaluate(model, prepared.tokenizer, [long], stride=50)
    assert strided.tokens == len(prepared.tokenizer.encode("Once there was a cat."))


# -- a run ------------------------------------------------------------------------------------------------


def test_batches_of_a_run_that_goes_on_are_those_it_would_have_had(prepared):
    config = tiny(prepared, "data.loss_on=story")
    before, after = (build_batches(config, Prepared.load(prepared.folder)) for _ in range(2))
    before.batch(0)
    for step in (1, 17):
        assert torch.equal(before.batch(step).targets_BT, after.batch(step).targets_BT)


def test_a_run_is_judged_as_evaluate_judges_it(prepared, tmp_path):
    steps = ("train.steps=6", "train.eval_every=0", "train.sample_every=0")
    run = train_run(tiny(prepared, "data.layout=padded", "data.loss_on=story", *steps), tmp_path / "run")
    assert run.validation is not None
    model, tokenizer = load(run.model)
    again = evaluate(model, tokenizer, Corpus(str(prepared.folder)))
    assert again.bits_per_byte == pytest.approx(run.validation.bits_per_byte, rel=1e-6)
    assert again.bytes == sum(len(story.encode()) for story in prepared.validation_stories())
