"""The playground in a real browser, before a real server."""

import inspect
import time
from contextlib import closing
from pathlib import Path

import pytest

from serve.playground import (
    BEGINNING,
    ENDLESS,
    KEY,
    SECONDS,
    TOLD,
    Server,
    asked,
    open_told,
    save_babbler,
    text,
    told,
    until,
    words,
)
from storylm.cli.generate import generate


def test_a_story_is_what_the_api_tells_with_the_same_settings(page, server: Server) -> None:
    open_told(page, server, temperature=0.5, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.1)
    choice = asked(server, temperature=0.5, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.1)
    assert text(page) == choice["text"]
    assert words(page) == choice["logprobs"]["tokens"][:-1]
    assert page.locator(".end").count() == 1
    assert page.locator("#spoken").inner_text() == choice["text"].replace("\n", " ")  # once, and whole


def test_it_streams_and_stop_ends_it_on_the_server(page, server: Server) -> None:
    began = server.tokens_told()
    page.goto(server.address(**ENDLESS))
    until(page, "document.querySelectorAll('.word').length > 20")
    first = len(words(page))
    until(page, f"document.querySelectorAll('.word').length > {first}")
    assert page.locator("#tell").inner_text() == "Stop"
    assert page.locator("#spoken").inner_text() == ""  # does not chatter
    page.keyboard.press("Escape")
    told(page)
    assert "Stopped" in page.locator(".story-foot").inner_text()
    told_before, shown, end = -1.0, len(words(page)), time.monotonic() + SECONDS
    while (now := server.tokens_told()) != told_before:  # it hears of it a moment later
        assert time.monotonic() < end
        told_before = now
        time.sleep(0.3)
    assert now - began < 2000
    assert len(words(page)) == shown < 2000


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


def test_after_a_stop_there_are_others_to_choose_from(page, server: Server) -> None:
    page.goto(server.address(**ENDLESS, mode="choose"))  # whose sentences do not end by themselves
    until(page, "document.querySelectorAll('.offer').length === 3")
    until(page, "document.querySelector('.offer').textContent.length > 5")
    assert page.locator("#others").is_disabled()
    page.keyboard.press("Escape")
    told(page)
    assert page.locator("#others").is_enabled()
    assert page.locator(".offer:enabled").count() == 0  # half a sentence is none
    page.click("#others")
    until(page, "document.querySelector('.offer')?.textContent.length > 5")
    assert page.locator("#tell").inner_text() == "Stop"
    told(page)
    assert page.locator(".offer:enabled").count() == 3
    assert "path=o" in page.url  # and with other seeds


def test_after_a_stop_before_anything_came_it_begins_with_the_beginning(page, server: Server) -> None:
    held = []
    page.route("**/v1/completions", lambda route: held.append(route))
    page.goto(server.address(**TOLD, mode="choose"))
    until_held(page, held)
    page.keyboard.press("Escape")
    told(page)
    for route in held:
        route.abort()
    page.unroute("**/v1/completions")
    page.click("#others")
    page.locator(".offer:enabled").first.wait_for()
    assert text(page) == BEGINNING


def until_held(page, held: list) -> None:
    end = time.monotonic() + SECONDS
    while not held:
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def test_the_keyboard_stays_with_the_sentences(page, server: Server) -> None:
    page.goto(server.address(**TOLD, mode="choose"))
    page.locator(".offer:enabled").first.wait_for()
    for press, path in (("#others", "o"), (".offer >> nth=1", "o2")):
        page.locator(press).focus()
        page.keyboard.press("Enter")
        until(page, f"location.hash.endsWith('path={path}')")
        told(page)
        assert page.evaluate("document.getElementById('offers').contains(document.activeElement)")


def test_its_settings_are_those_of_generate_with_their_defaults(page, server: Server) -> None:
    page.goto(server.url)
    until(page, "document.getElementById('model').value !== ''")
    with page.expect_request("**/v1/completions") as request:
        page.click("#tell")
    sent = request.value.post_data_json
    off = {"top_p": 1, "min_p": 0}
    for name in ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
        default = inspect.signature(generate).parameters[name].default
        own = {"max_new_tokens": "max_tokens"}.get(name, name)
        assert sent.get(own) == (off.get(own) if default is None else default), name


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


def test_another_error_does_not_go_on_counting(page, strict_server: Server) -> None:
    page.goto(strict_server.address(**TOLD, mode="choose"))
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.locator("#again:disabled").wait_for()
    assert page.locator("#again").inner_text().startswith("Again in ")
    page.fill("#prompt", "dog " * 600)
    page.click("#tell")
    until(page, "document.getElementById('notice-text').textContent.includes('context is 512')")
    assert page.locator("#again").is_enabled()
    assert page.locator("#again").inner_text() == "Try again"


def test_what_the_server_refuses_is_shown_as_it_says_it(page, server: Server) -> None:
    page.goto(server.address(seed=7, max_tokens=400))
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
    page.goto(server.address(**{**TOLD, "max_tokens": 100}, mode=mode, view="attention", second="babble", top_k=50))
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
