"""The playground in a real browser, before a real server."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from serve.playground import Server, browser, save_babbler

BEGINNING = "Once upon a time, there was a"
TOLD = {"prompt": BEGINNING, "seed": 7, "told": 1}
ENDLESS = {"model": "babble", "prompt": "Once", "max_tokens": 4000, "top_k": 50, "seed": 3, "told": 1}
KEY = "a key that is long enough"
SECONDS = 15


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(chromium, tmp_path_factory) -> Iterator[Server]:
    """Two models: one that tells stories, one that babbles without end."""
    server = Server("grammar-1m", str(save_babbler(tmp_path_factory.mktemp("models") / "babble")))
    yield server
    server.close()


@pytest.fixture
def page(chromium) -> Iterator[Any]:
    """A page that must ask its own server alone and fail in nothing."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, asked, failed = context.new_page(), [], []
    page.set_default_timeout(1000 * SECONDS)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda said: failed.append(said.text) if "Content Security" in said.text else None)
    yield page
    own = page.url.partition("#")[0]
    context.close()
    assert asked
    assert [url for url in asked if not url.startswith(own)] == []
    assert failed == []


def words(page, story: int = 1) -> list[str]:
    """The story's words as the page shows them, the sign of the end left out."""
    return page.locator(f"#stories .story:nth-child({story}) .word:not(.end)").evaluate_all(
        "all => all.map(one => one.textContent)"
    )


def until(page, condition: str) -> None:
    """Wait until this is so. Playwright's own way is `eval`, which the page's policy forbids."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"it did not come to {condition}"
        page.wait_for_timeout(20)


def text(page, story: int = 1) -> str:
    return "".join(words(page, story))


def told(page) -> None:
    """Wait until nothing is on its way."""
    until(page, "document.getElementById('tell').textContent === 'Tell the story'")


def open_told(page, server: Server, **settings: Any) -> None:
    page.goto(server.address(**{**TOLD, **settings}))
    page.locator(".word").first.wait_for()
    told(page)


def asked(server: Server, **settings: Any) -> dict[str, Any]:
    """The choice that the API gives for what the page asks."""
    body = {"model": "grammar-1m", "prompt": BEGINNING, "seed": 7, "max_tokens": 400, "temperature": 0.8}
    return server.post("/v1/completions", **{**body, "echo": True, "logprobs": 5, **settings})["choices"][0]


def percent(nats: float) -> str:
    share = math.exp(nats)
    return "< 0.1 %" if share < 0.0005 else "> 99.9 %" if share > 0.9995 else f"{100 * share:.1f} %"


def test_a_story_is_what_the_api_tells_with_the_same_settings(page, server: Server) -> None:
    open_told(page, server, temperature=0.5, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.1)
    choice = asked(server, temperature=0.5, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.1)
    assert text(page) == choice["text"]
    assert words(page) == choice["logprobs"]["tokens"][:-1]
    assert page.locator(".end").count() == 1
    assert page.locator("#spoken").inner_text() == choice["text"].replace("\n", " ")  # once, and whole


def test_it_streams_and_stop_ends_it_on_the_server(page, server: Server) -> None:
    page.goto(server.address(**ENDLESS))
    until(page, "document.querySelectorAll('.word').length > 20")
    first = len(words(page))
    until(page, f"document.querySelectorAll('.word').length > {first}")
    assert page.locator("#tell").inner_text() == "Stop"
    assert page.locator("#spoken").inner_text() == ""  # does not chatter
    page.keyboard.press("Escape")
    told(page)
    assert "Stopped" in page.locator(".story-foot").inner_text()
    time.sleep(0.2)
    before, shown = server.tokens_told(), len(words(page))
    time.sleep(0.3)
    assert server.tokens_told() == before
    assert len(words(page)) == shown < 4000


def test_the_same_seed_tells_the_same_story_and_another_another(page, server: Server) -> None:
    open_told(page, server)
    first = text(page)
    page.click("#tell")
    until(page, "document.getElementById('spoken').textContent !== ''")
    told(page)
    assert text(page) == first
    page.click("#another")
    until(page, "document.getElementById('seed').value !== '7'")
    told(page)
    assert text(page) not in ("", first)


def test_a_word_shows_how_likely_it_was_as_the_api_has_it(page, server: Server) -> None:
    open_told(page, server, view="likelihood")
    said = asked(server)["logprobs"]
    for index in (0, 9, 11, 30, len(said["tokens"]) - 1):
        page.locator(".word .ink").nth(index).hover()
        assert page.locator("#card").get_attribute("data-of") == f"story-1-{index}"
        nats = float(page.locator(".word").nth(index).get_attribute("data-nats"))
        assert nats == pytest.approx(said["token_logprobs"][index], abs=1e-4)
        assert page.locator(".card-share").inner_text() == percent(nats)
        others = sorted(said["top_logprobs"][index].values(), reverse=True)
        assert page.locator(".bar-share").all_inner_texts() == [percent(value) for value in others]
        widths = page.locator(".bar-track").evaluate_all("all => all.map(one => one.parentNode.style.cssText)")
        assert widths == [f"--share: {math.exp(value):.4f};" for value in others]
        shade = page.locator(".word").nth(index).evaluate("one => one.style.getPropertyValue('--surprise')")
        assert float(shade) == pytest.approx(min(1, -nats / 6), abs=1e-3)


def test_the_keyboard_goes_through_the_words(page, server: Server) -> None:
    open_told(page, server)
    page.keyboard.press("w")
    active = "document.querySelector('.words').getAttribute('aria-activedescendant')"
    assert page.evaluate(active) == "story-1-0"
    assert page.locator("#card").is_visible()
    for key, expected in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("Home", 0)):
        page.keyboard.press(key)
        assert page.evaluate(active) == f"story-1-{expected}"
    assert "% likely" in page.locator("#story-1-0").get_attribute("aria-label")
    page.keyboard.press("ArrowDown")
    below = page.locator("[aria-selected=true] .ink").bounding_box()
    here = page.locator("#story-1-0 .ink").bounding_box()
    assert below["y"] > here["y"]
    assert abs(below["x"] - here["x"]) < 30
    page.keyboard.press("ArrowUp")
    assert page.evaluate(active) == "story-1-0"
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()


def test_two_models_side_by_side(page, server: Server) -> None:
    open_told(page, server, second="babble", max_tokens=40, top_k=50)
    assert page.locator(".story h2").all_inner_texts()[0].startswith("grammar-1m")
    choices = [asked(server, model=model, max_tokens=40, top_k=50) for model in ("grammar-1m", "babble")]
    assert [text(page, 1), text(page, 2)] == [choice["text"] for choice in choices]
    boxes = [page.locator(".story").nth(index).bounding_box() for index in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]


def test_sentences_are_chosen_one_by_one_to_the_end(page, server: Server) -> None:
    page.goto(server.address(**TOLD, mode="choose"))
    page.locator(".offer:enabled").first.wait_for()
    told(page)
    first = page.locator(".offer").all_inner_texts()
    assert len(first) == 3
    assert all(offer.rstrip()[-1] in '.!?"' for offer in first)
    third = asked(server, seed=9, echo=False, max_tokens=96)["text"]
    assert third.lstrip().startswith(first[2])
    page.keyboard.press("2")
    until(page, "document.querySelectorAll('.offer:enabled').length > 0")
    assert text(page) == f"{BEGINNING} {first[1]}"
    nats = page.locator(".word").last.get_attribute("data-nats")
    assert float(nats) <= 0
    told(page)
    page.click("#back")
    assert text(page) == BEGINNING
    assert page.locator(".offer").all_inner_texts() == first
    for _ in range(60):
        page.locator(".offer:enabled").first.click()
        told(page)
        if page.locator(".end").count():
            break
    assert page.locator("#offers h2").inner_text() == "The end."
    assert page.locator("#others").is_hidden()
    page.keyboard.press("b")
    assert page.locator(".offer:enabled").count() >= 1


def test_attention_is_shaded_as_the_api_has_it(page, server: Server) -> None:
    open_told(page, server, view="attention")
    page.locator(".word .ink").nth(20).click()
    until(page, "document.querySelectorAll('[data-attention]').length === 21")
    answer = server.post("/v1/attention", model="grammar-1m", prompt="".join(words(page)[:21]))
    weights = answer["weights"]

    def shown() -> list[float]:
        return [float(one) for one in page.locator("[data-attention]").evaluate_all(
            "all => all.map(one => one.dataset.attention)"
        )]  # fmt: skip

    every = [head for layer in weights for head in layer]
    assert shown() == pytest.approx([sum(head[t] for head in every) / len(every) for t in range(1, 22)], abs=2e-4)
    page.get_by_label("Layer").select_option("3")
    page.get_by_label("Head").select_option("2")
    assert shown() == pytest.approx(weights[2][1][1:], abs=2e-4)
    shade = page.locator(".word").nth(20).evaluate("one => one.style.getPropertyValue('--attention')")
    assert float(shade) == pytest.approx(weights[2][1][21] / max(weights[2][1][1:]), abs=2e-3)
    page.locator(".words").focus()
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelectorAll('[data-attention]').length === 22")
    assert page.locator(".card-note").inner_text() == "looks at"


def test_the_address_says_it_all(page, server: Server, chromium) -> None:
    page.goto(server.url)
    page.fill("#prompt", "Tim & Lily # had 100 % fun – 🐶")
    for name, value in (("seed", "11"), ("top_k", "30"), ("max_tokens", "60")):
        page.fill(f"#{name}", value)
    for name, value in (("temperature", "0.55"), ("top_p", "0.9"), ("min_p", "0.03"), ("repetition_penalty", "1.2")):
        page.locator(f"#{name}").evaluate("(one, value) => { one.value = value; }", value)
    page.select_option("#second", "babble")
    page.click("#tell")
    page.locator(".word").first.wait_for()
    told(page)
    page.click("#link")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert "top_k=30" in link
    other = chromium.new_context().new_page()
    other.goto(link)
    other.locator(".story:nth-child(2) .word").first.wait_for()
    told(other)
    values = "Object.fromEntries(new FormData(document.getElementById('form')))"
    assert other.evaluate(values) == page.evaluate(values)
    assert [text(other, 1), text(other, 2)] == [text(page, 1), text(page, 2)]
    assert set(parse_qs(link.partition("#")[2])) >= {"prompt", "model", "second", "seed", "temperature", "told"}
    other.context.close()


@pytest.fixture(scope="module")
def strict_server(chromium) -> Iterator[Server]:
    """One that asks for a key and takes one story at a time."""
    server = Server("grammar-1m", "--slots", "1", "--queue", "0", key=KEY)
    yield server
    server.close()


def test_a_key_is_asked_for_and_kept_in_memory_alone(page, strict_server: Server) -> None:
    page.goto(strict_server.address(**TOLD))
    page.fill("#key", "a key that is wrong....")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#ask-key[open] #key')?.value === ''")
    assert "send the server's key" in page.locator("#key-why").inner_text()
    page.keyboard.press("Escape")
    until(page, "document.getElementById('notice-text').textContent.includes('Without its key')")
    page.click("#again")
    page.fill("#key", KEY)
    page.get_by_role("button", name="Use it").click()
    page.locator(".word").first.wait_for()
    told(page)
    assert text(page).startswith(BEGINNING)
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert KEY not in kept
    assert page.locator("#key").input_value() == ""


def test_who_comes_too_early_is_told_when_to_come_again(page, strict_server: Server) -> None:
    page.goto(strict_server.address(**TOLD, mode="choose"))  # three at once, where one is allowed
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.locator("#notice").wait_for()
    assert "Too much is on its way" in page.locator("#notice-text").inner_text()
    assert "wait for 2 s" in page.locator("#notice-text").inner_text()
    assert page.locator("#again").is_disabled()
    page.locator("#again:enabled").wait_for()
    assert page.locator("#again").inner_text() == "Try again"


def test_what_the_server_refuses_is_shown_as_it_says_it(page, server: Server) -> None:
    page.goto(server.url)
    until(page, "document.getElementById('model').value !== ''")
    page.fill("#prompt", "dog " * 600)
    page.click("#tell")
    page.locator("#notice").wait_for()
    assert "but the model's context is 512" in page.locator("#notice-text").inner_text()
    page.fill("#prompt", BEGINNING)
    page.click("#again")
    page.locator(".end").wait_for()
    assert page.locator("#notice").is_hidden()


@pytest.mark.slow
def test_a_server_that_goes_away_is_said_to_be_away(page, tmp_path: Path) -> None:
    server = Server(str(save_babbler(tmp_path / "babble")))
    with closing(server):
        page.goto(server.address(**ENDLESS))
        until(page, "document.querySelectorAll('.word').length > 20")
        server.process.kill()
    page.locator("#notice").wait_for()
    assert "went away" in page.locator("#notice-text").inner_text()
    assert len(words(page)) > 20
    page.click("#again")
    until(page, "document.getElementById('notice-text').textContent.includes('does not answer')")


@pytest.mark.parametrize("mode", ["tell", "choose"])
def test_a_phone_scrolls_in_one_direction(page, server: Server, mode: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(server.address(**TOLD, mode=mode, view="attention", second="babble", top_k=50, max_tokens=100))
    page.locator(".word").first.wait_for()
    told(page)
    page.locator(".word .ink").nth(4).click()
    until(page, "document.querySelectorAll('[data-attention]').length > 0")
    page.click("#settings summary")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    card = page.locator("#card").bounding_box()
    assert card is None or (card["x"] >= 0 and card["x"] + card["width"] <= 360)


def test_dark_and_light(page, server: Server) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"

    def lightness() -> float:
        return sum(map(int, page.evaluate(ground).removeprefix("rgb(").rstrip(")").split(","))) / 3

    page.emulate_media(color_scheme="light")
    page.goto(server.url)
    assert lightness() > 200
    page.emulate_media(color_scheme="dark")
    assert lightness() < 60
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.click("#theme")
    assert lightness() > 200
    page.reload()
    assert lightness() > 200  # remembered, against the system
    page.keyboard.press("d")
    assert lightness() < 60
    page.emulate_media(color_scheme="light")
    assert lightness() < 60


SCENES = {
    "start": ({}, ""),
    "likelihood": ({**TOLD, "view": "likelihood"}, ".word:nth-child(12) .ink"),
    "attention of two": (
        {**TOLD, "view": "attention", "second": "babble", "max_tokens": 60},
        ".word:nth-child(9) .ink",
    ),
    "choosing": ({**TOLD, "mode": "choose"}, ""),
    "shortcuts": ({}, "#help"),
    "error": ({**TOLD, "prompt": "dog " * 600}, ""),
}


QUICK = {("attention of two", "light"), ("choosing", "dark")}


@pytest.mark.parametrize(
    ("scene", "scheme"),
    [
        pytest.param(scene, scheme, marks=() if (scene, scheme) in QUICK else pytest.mark.slow)
        for scene in SCENES
        for scheme in ("light", "dark")
    ],
)
def test_axe_finds_nothing(page, server: Server, scene: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    settings, press = SCENES[scene]
    page.emulate_media(color_scheme=scheme)
    page.goto(server.address(**settings))
    until(page, "document.getElementById('model').value !== ''")
    told(page)
    if press:
        page.click(press)
        page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_shades_leave_words_readable(page, server: Server) -> None:
    """Axe looks at no gradient: the deepest shade against the ink, WCAG's ratio of at least 4.5."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        open_told(page, server, view="likelihood")
        ratio = page.evaluate(
            """() => {
            const word = document.querySelector(".word:not(.given)");
            word.style.setProperty("--surprise", 1);
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            const paint = (...colours) => {
                for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
                const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255)
                    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ink = word.querySelector(".ink");
            const shade = /(?:color|rgba?)\\([^()]*\\)/.exec(getComputedStyle(ink).backgroundImage)[0];
            const ground = paint(getComputedStyle(document.body).backgroundColor, shade);
            const plain = paint(getComputedStyle(document.body).backgroundColor);
            const text = paint(getComputedStyle(word).color);
            const ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            return [ratio(text, ground), ratio(plain, ground)];
        }"""
        )
        assert ratio[0] > 4.5
        assert ratio[1] > 1.2  # and the shade is there to be seen


def test_tokens_are_laid_along_the_text(page, server: Server) -> None:
    """Characters of several tokens are one word; a dropped first space does no harm; the end is a word without text."""
    page.goto(server.url)
    script = """async () => {
        const { Words } = await import("/static/words.js");
        const pieces = (...all) => {
            const words = new Words();
            return all.flatMap(([text, tokens, ended = null]) => words.add({ text, finish_reason: ended, logprobs: {
                tokens, token_logprobs: tokens.map(() => -1), top_logprobs: tokens.map(() => ({})) } }))
                .map((word) => [word.text, word.start, word.tokens.length]);
        };
        return [
            pieces(["Hi", ["Hi"]], ["", ["\\uFFFD"]], ["", ["\\uFFFD"]], ["🐶", ["\\uFFFD"]],
                [".", ["."]], ["", ["<e>"], "stop"]),
            pieces(["Playing along", [" Playing", " along"]]),
            pieces(["é, ok", ["\\uFFFD", "\\uFFFD", ",", " ok"]]),
        ];
    }"""
    assert page.evaluate(script) == [
        [["Hi", 0, 1], ["🐶", 2, 3], [".", 4, 1], ["", 5, 1]],
        [["Playing", 0, 1], [" along", 7, 1]],
        [["é", 0, 2], [",", 1, 1], [" ok", 2, 1]],
    ]


SENTENCES = [  # a text, whether nothing more comes, and its first sentence
    ("He ran. Then he", False, "He ran."),
    ("He ran.", False, None),
    ("He ran.", True, "He ran."),
    ('"Meow!" said Tim. He', False, '"Meow!" said Tim.'),
    ("Mr. Fox ran. It", False, "Mr. Fox ran."),
    ("It ended.\nOne day", False, "It ended."),
    ('"Why?" "Because." Then', False, '"Why?"'),
    ("no end at all", True, None),
]


def test_where_a_sentence_ends(page, server: Server) -> None:
    page.goto(server.url)
    script = """async (cases) => {
        const { sentenceLength } = await import("/static/sentences.js");
        return cases.map(([text, whole]) => sentenceLength(text, whole));
    }"""
    expected = [-1 if sentence is None else len(sentence) for _, _, sentence in SENTENCES]
    assert page.evaluate(script, [case[:2] for case in SENTENCES]) == expected
