"""The playground's words in a real browser: how likely each was, what else could have come, where it looks."""

import math

import pytest

from serve.playground import Server, asked, open_told, percent, told, until, words


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


def test_the_card_names_the_place_among_the_likeliest(page, server: Server) -> None:
    """Of five that are asked for, the fifth is one; a sixth is there where it was drawn alone."""
    open_told(page, server, temperature=1.4, max_tokens=120)
    said = asked(server, temperature=1.4, max_tokens=120)["logprobs"]
    assert words(page) == said["tokens"]
    seen = set()
    for index, (token, others) in enumerate(zip(said["tokens"], said["top_logprobs"], strict=True)):
        if others is None or index < 10:
            continue
        rank = sorted(others, key=others.get, reverse=True).index(token) + 1
        if rank in seen:
            continue
        seen.add(rank)
        page.locator(".word .ink").nth(index).hover()
        order = "the likeliest" if rank == 1 else "beyond the first 5" if rank == 6 else f"number {rank}"
        assert page.locator(".card-note").inner_text().startswith(f"{order};")
    assert seen == {1, 2, 3, 4, 5, 6}


def test_who_hears_the_page_hears_what_else_could_have_come(page, server: Server) -> None:
    open_told(page, server)
    said = asked(server)["logprobs"]
    index = next(
        index
        for index, (token, others) in enumerate(zip(said["tokens"], said["top_logprobs"], strict=True))
        if index > 10 and others[token] < max(others.values())
    )
    page.locator(".word .ink").nth(index).click()
    name, description = heard(page)
    others = said["top_logprobs"][index]
    assert name == f"{said['tokens'][index].strip()}, {percent(said['token_logprobs'][index])} likely"
    assert description.startswith(("number ", "beyond "))
    expected = [one for one in sorted(others, key=others.get, reverse=True) if one != said["tokens"][index]]
    for one in expected:
        assert percent(others[one]) in description
        assert one.strip() in description
    page.locator(".word .ink").nth(index + 1).hover()  # the card is of another word now
    assert heard(page) == (name, description)
    page.locator("[name=view][value=attention]").check()
    until(page, "document.getElementById('story-1-heard').textContent.startsWith('looks at')")
    assert heard(page)[1].count(" %") == 6


def heard(page) -> tuple[str, str]:
    """Name and description of the chosen word, as the browser tells assistive technology."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    (node,) = [
        node
        for node in nodes
        if {"name": "selected", "value": {"type": "booleanOrUndefined", "value": True}} in node.get("properties", ())
        and "likely" in node["name"]["value"]  # not an option of a setting
    ]
    return node["name"]["value"], node.get("description", {}).get("value", "")


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


def test_attention_is_shaded_as_the_api_has_it(page, server: Server) -> None:
    open_told(page, server, view="attention")
    page.locator(".word .ink").nth(20).click()
    until(page, "document.querySelectorAll('[data-attention]').length === 21")
    answer = server.post("/v1/attention", model="grammar-1m", prompt="".join(words(page)[:21]))
    weights = answer["weights"]

    def shades(page) -> list[float]:
        return [float(one) for one in page.locator("[data-attention]").evaluate_all(
            "all => all.map(one => one.dataset.attention)"
        )]  # fmt: skip

    every = [head for layer in weights for head in layer]
    assert shades(page) == pytest.approx([sum(head[t] for head in every) / len(every) for t in range(1, 22)], abs=2e-4)
    page.get_by_label("Layer").select_option("3")
    page.get_by_label("Head").select_option("2")
    assert shades(page) == pytest.approx(weights[2][1][1:], abs=2e-4)
    shade = page.locator(".word").nth(20).evaluate("one => one.style.getPropertyValue('--attention')")
    assert float(shade) == pytest.approx(weights[2][1][21] / max(weights[2][1][1:]), abs=2e-3)
    page.locator(".words").focus()
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelectorAll('[data-attention]').length === 22")
    assert page.locator(".card-note").inner_text() == "looks at"


@pytest.mark.parametrize("mode", ["tell", "choose"])
def test_attention_is_that_of_the_tokens_that_were_drawn(page, server: Server, mode: str) -> None:
    """After characters of several tokens, and where the text told anew would fall into other tokens."""
    beginning = "é🐶 and Tim: 𝒳"
    settings = {"model": "babble", "prompt": beginning, "max_tokens": 40, "top_k": 50, "view": "attention"}
    open_told(page, server, **settings, mode=mode)
    said = asked(server, **{key: settings[key] for key in ("model", "prompt", "max_tokens", "top_k")}, echo=False)
    if mode == "choose":
        page.locator(".offer").first.click()
        told(page)
    shown = words(page)
    assert shown[:2] == ["é", "🐶"]
    owners = [index for index, word in enumerate(shown) for _ in word]  # of each code point
    for token_ids in ([], said["token_ids"][:12]):
        answer = server.post("/v1/attention", model="babble", prompt=beginning, token_ids=token_ids)
        spans = answer["spans"]
        count = owners[spans[-1][1] - 1] + 1
        page.locator(".word .ink").nth(count - 1).click()
        until(page, f"document.querySelectorAll('[data-attention]').length === {count}")
        every = [head for layer in answer["weights"] for head in layer]
        expected = [0.0] * count
        for token, (first, end) in enumerate(spans[1:], start=1):
            share = sum(head[token] for head in every) / len(every)
            for at in range(first, end):
                expected[owners[at]] += share / (end - first)
        assert shades(page) == pytest.approx(expected, abs=2e-4)
    own = server.post("/v1/attention", model="babble", prompt="".join(shown[:count]))
    assert len(own["spans"]) != len(answer["spans"])  # told anew it is of other tokens: the test has teeth


def shades(page) -> list[float]:
    return page.locator("[data-attention]").evaluate_all("all => all.map(one => Number(one.dataset.attention))")


def test_tokens_are_laid_along_the_text(page, server: Server) -> None:
    """Characters of several tokens are one word, counted as code points; the end is a word without text."""
    page.goto(server.url)
    script = """async () => {
        const { Words } = await import("/static/words.js");
        const pieces = (...all) => {
            const words = new Words();
            return all.flatMap(([text, places, ended = null]) => words.add({ text, finish_reason: ended,
                token_ids: places, logprobs: { tokens: places.map(String), token_logprobs: places.map(() => -1),
                top_logprobs: places.map(() => ({})), text_offset: places } }))
                .map((word) => [word.text, word.start, word.tokens.length]);
        };
        return [
            pieces(["Hi", [0]], ["", [2]], ["", [2]], ["🐶", [2]], ["", [3]], ["𝒳", [3]], ["", [4], "stop"]),
            pieces(["Playing along", [0, 7]]),
            pieces(["é, ok", [0, 0, 1, 2]]),
            pieces(["a", [0]], ["", [1]], ["\ufffd", [2], "stop"]),
            pieces(["a", [0]], ["", [1]], ["\ufffd", [], "length"]),
        ];
    }"""
    assert page.evaluate(script) == [
        [["Hi", 0, 1], ["🐶", 2, 3], ["𝒳", 4, 2], ["", 6, 1]],
        [["Playing", 0, 1], [" along", 7, 1]],
        [["é", 0, 2], [",", 1, 1], [" ok", 2, 1]],
        [["a", 0, 1], ["\ufffd", 1, 1], ["", 2, 1]],
        [["a", 0, 1], ["\ufffd", 1, 1]],
    ]
