"""The playground's address, in a real browser: it keeps what one sees."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest

from serve.playground import BEGINNING, TOLD, Server, asked, open_told, text, told, until


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


def test_a_link_keeps_an_empty_beginning(page, server: Server, chromium) -> None:
    open_told(page, server, prompt="")
    link = page.url
    story = text(page)
    assert story
    with opened(chromium, link) as other:
        assert other.locator("#prompt").input_value() == ""
        assert text(other) == story


def test_a_link_in_an_open_tab_leaves_nothing_of_before(page, server: Server) -> None:
    """Neither what it says nor what it does not: that is as on a new page."""
    open_told(page, server, top_k=1, second="babble", max_tokens=30, temperature=1.3, mode="tell", view="likelihood")
    assert page.locator(".story").count() == 2
    page.evaluate("to => { location.href = to; }", server.address(prompt="One day", seed=5, told=1))
    until(page, "document.querySelectorAll('.story').length === 1")
    told(page)
    assert form(page) == {**defaults(page), "prompt": "One day", "seed": "5"}
    assert page.locator("#stories").get_attribute("data-view") == "plain"
    assert text(page) == asked(server, prompt="One day", seed=5, max_tokens=256)["text"]


@pytest.mark.parametrize("field", ["model", "second"])
def test_a_model_that_is_not_here_is_said_to_be_missing(page, server: Server, field: str) -> None:
    page.goto(server.address(**{**TOLD, field: "runs/gone"}))
    page.locator("#notice").wait_for()
    said = page.locator("#notice-text").inner_text()
    assert "no “runs/gone”" in said
    assert "“grammar-1m”, “babble”" in said
    assert page.locator(".word").count() == 0  # no other model's story in its place
    page.select_option("#model", "grammar-1m")
    page.click("#tell")
    page.locator(".end").wait_for()
    assert page.locator("#notice").is_hidden()
    assert "gone" not in page.url


def test_a_link_keeps_what_was_chosen(page, server: Server, chromium) -> None:
    page.goto(server.address(**TOLD, mode="choose"))
    chosen(page)
    page.keyboard.press("2")
    chosen(page)
    page.click("#others")
    chosen(page)
    page.keyboard.press("1")
    chosen(page)
    page.keyboard.press("3")
    chosen(page)
    page.click("#back")  # leaves no trace
    chosen(page)
    page.click("#others")
    chosen(page)
    link, story, offers = page.url, text(page), page.locator(".offer").all_inner_texts()
    assert parse_qs(link.partition("#")[2])["path"] == ["2o1o"]
    with opened(chromium, link) as other:
        chosen(other)
        assert text(other) == story
        assert other.locator(".offer").all_inner_texts() == offers
        assert other.url == link
        other.click("#back")
        assert text(other) != story
        assert other.locator(".offer:enabled").count() >= 2
    page.fill("#seed", "8")  # with which other sentences would come
    page.keyboard.press("Tab")
    assert "path" not in parse_qs(page.url.partition("#")[2])


def test_a_path_that_is_none_is_not_followed(page, server: Server) -> None:
    page.goto(server.address(**TOLD, mode="choose", path="9x"))
    chosen(page)
    assert page.locator("#notice").is_hidden()
    assert text(page) == BEGINNING


def chosen(page) -> None:
    """Wait until one can choose."""
    told(page)
    page.locator(".offer:enabled").first.wait_for()


def form(page) -> dict[str, str]:
    return page.evaluate("Object.fromEntries(new FormData(document.getElementById('form')))")


def defaults(page) -> dict[str, str]:
    """What the form has on a new page."""
    with opened_new(page) as new:
        until(new, "document.getElementById('model').value !== ''")
        return form(new)


@contextmanager
def opened_new(page) -> Iterator[Any]:
    new = page.context.new_page()
    new.goto(page.url.partition("#")[0])
    yield new
    new.close()


@contextmanager
def opened(chromium, link: str) -> Iterator[Any]:
    """The link at someone else's, when all is told."""
    other = chromium.new_context().new_page()
    other.goto(link)
    other.locator(".word").first.wait_for()
    told(other)
    yield other
    other.context.close()
