// One story of one model on the page: its words, which of them is chosen, and what is said beneath it.

import { hideCard, showCard } from "./card.js";
import { chances, inWords, looksInWords } from "./chances.js";
import { Gaze } from "./gaze.js";
import { step } from "./steps.js";
import { elementOf, label } from "./word.js";
import { goesOn, Words } from "./words.js";

export class Story {
  #words;
  #list;
  #foot;
  #heard; // what the card shows of the chosen word, for those who cannot see it
  #gaze;

  /** `model` is as /v1/models tells it; `name` begins the ids of what is made here. */
  constructor(model, name) {
    this.model = model;
    this.name = name;
    this.element = document.createElement("article");
    this.element.className = "story";
    const head = document.createElement("h2");
    head.textContent = model.id;
    const size = document.createElement("small");
    size.textContent = `${model.parameters.toLocaleString("en")} parameters`;
    head.append(" ", size);
    this.#list = document.createElement("div");
    this.#list.className = "words";
    this.#list.tabIndex = 0;
    this.#list.setAttribute("role", "listbox");
    this.#list.setAttribute("aria-label", `The story of ${model.id}, word by word`);
    this.#foot = document.createElement("p");
    this.#foot.className = "story-foot";
    this.#heard = document.createElement("p");
    this.#heard.id = `${name}-heard`;
    this.#heard.hidden = true; // by itself it is not read: the chosen word refers to it
    this.#gaze = new Gaze(this);
    this.element.append(head, this.#gaze.pickers, this.#list, this.#foot, this.#heard);
    this.#listen();
    this.clear();
  }

  /** Begin anew. */
  clear() {
    this.words = [];
    this.chosen = null;
    this.#words = new Words();
    this.#list.replaceChildren();
    this.#list.removeAttribute("aria-activedescendant");
    this.#foot.textContent = "";
    this.#gaze.clear();
  }

  get text() {
    return this.words.map((word) => word.text).join("");
  }

  /** Tokens that the model drew, the one that ended the story included. */
  get drawn() {
    return this.words.reduce((sum, word) => sum + (word.given ? 0 : word.tokens.length), 0);
  }

  get ended() {
    return this.words.at(-1)?.text === "";
  }

  /** More of the story, a piece of a completion; what stands before character `given` was asked, not told. */
  add(piece, given = 0) {
    this.push(this.#words.add(piece).map((word) => ({ ...word, given: word.start < given })), given);
  }

  /** More words, which go on from those there are; the model drew them after the text up to `after`. */
  push(words, after = this.text.length) {
    let start = this.text.length;
    for (const word of words) {
      const own = { ...word, start, after, index: this.words.length };
      start += word.text.length;
      own.element = elementOf(own, `${this.name}-${own.index}`);
      this.words.push(own);
      this.#list.append(own.element);
    }
  }

  /** Take back the words after the first `count`. */
  cut(count) {
    for (const word of this.words.splice(count)) word.element.remove();
    if (this.chosen !== null && this.chosen >= count) this.choose(null);
  }

  say(text) {
    this.#foot.textContent = text;
  }

  /** Make a word the chosen one (null: none), whose likelihood is shown and whose attention is shaded. */
  choose(index, { card = true } = {}) {
    this.words[this.chosen]?.element.removeAttribute("aria-selected");
    this.words[this.chosen]?.element.removeAttribute("aria-describedby");
    this.chosen = index;
    const word = this.words[index];
    if (!word) {
      this.#list.removeAttribute("aria-activedescendant");
      hideCard();
      this.#gaze.clear();
      return;
    }
    word.element.setAttribute("aria-selected", "true");
    word.element.setAttribute("aria-label", label(word));
    word.element.setAttribute("aria-describedby", this.#heard.id);
    this.#describe(word);
    this.#list.setAttribute("aria-activedescendant", word.element.id);
    word.element.scrollIntoView({ block: "nearest" });
    if (card) this.#show(word);
    this.#gaze.turn(word, () => {
      this.#describe(word);
      if (this.#list === document.activeElement) this.#show(word);
    });
  }

  /** Shade by attention from the chosen word, or the last; or no more. */
  set attending(on) {
    this.#gaze.on = on;
    if (on && this.words.length) this.choose(this.chosen ?? this.words.length - 1, { card: false });
  }

  #describe(word) {
    const gaze = this.#gaze.seen(word);
    this.#heard.textContent = gaze ? looksInWords(gaze) : inWords(chances(word, goesOn(word, this.#before(word))));
  }

  #show(word) {
    showCard(word, {
      before: this.#before(word),
      after: this.text.slice(word.start + word.text.length),
      gaze: this.#gaze.seen(word),
    });
  }

  #before(word) {
    return this.text.slice(0, word.start);
  }

  #listen() {
    const list = this.#list;
    const wordOf = (event) => this.words[event.target.closest?.(".word")?.id.split("-").at(-1)];
    list.addEventListener("pointerover", (event) => {
      const word = event.pointerType === "mouse" && wordOf(event);
      if (word) this.#show(word);
    });
    list.addEventListener("pointerleave", () => {
      if (list === document.activeElement && this.words[this.chosen]) this.#show(this.words[this.chosen]);
      else hideCard({ soon: true });
    });
    list.addEventListener("click", (event) => {
      const word = wordOf(event);
      if (word && !String(getSelection())) this.choose(word.index);
    });
    list.addEventListener("focus", () => {
      if (list.matches(":focus-visible") && this.words.length) this.choose(this.chosen ?? 0);
    });
    list.addEventListener("blur", () => hideCard());
    list.addEventListener("keydown", (event) => {
      const to = event.ctrlKey || event.altKey || event.metaKey ? null : step(this.words, this.chosen, event.key);
      if (to === null) return;
      event.preventDefault();
      this.choose(to);
    });
  }
}
