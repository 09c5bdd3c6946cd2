// Choose your own next sentence: three are offered, one is taken, and so on to the end.

import { complete } from "./api.js";
import { sentenceLength } from "./sentences.js";
import { Words } from "./words.js";

const OFFERS = 3;
const ALTERNATIVES = 5;
const LONGEST = 96; // tokens of a sentence

/** A story in the making: `taken` are the sentences so far, each with the offers it was taken from. */
export class Choosing {
  #draws = 0;
  #taken = [];

  constructor(story, prompt, sampling) {
    Object.assign(this, { story, prompt, sampling });
    this.offers = [];
  }

  get canStepBack() {
    return this.#taken.length > 0;
  }

  get over() {
    return this.story.ended;
  }

  /** The beginning, with its likelihoods. */
  async begin(signal) {
    this.story.clear();
    if (!this.prompt) return;
    const request = { model: this.story.model.id, prompt: this.prompt, max_tokens: 0, echo: true, logprobs: ALTERNATIVES };
    for await (const piece of complete(request, signal)) this.story.add(piece, this.prompt.length);
  }

  /** Ask for three sentences; `changed` hears as they grow. Each draw has seeds of its own, which follow from the first. */
  async offer(signal, changed) {
    const seed = (this.sampling.seed + OFFERS * this.#draws) % 2 ** 31;
    this.#draws += 1;
    const offers = Array.from({ length: OFFERS }, () => new Offer());
    this.offers = offers;
    const asked = { model: this.story.model.id, prompt: this.story.text, n: OFFERS, logprobs: ALTERNATIVES };
    const whole = new AbortController();
    signal.addEventListener("abort", () => whole.abort(), { once: true });
    for await (const piece of complete({ ...this.sampling, ...asked, seed, max_tokens: LONGEST }, whole.signal)) {
      offers[piece.index].add(piece);
      changed();
      if (offers.every((one) => one.done)) break; // what would come after their sentences is not waited for
    }
    whole.abort();
    this.offers = offers.filter((one, index) => offers.findIndex((other) => other.text === one.text) === index);
    changed();
  }

  take(index) {
    this.#taken.push({ offers: this.offers, count: this.story.words.length });
    this.story.push(this.offers[index].words);
    this.offers = [];
  }

  stepBack() {
    const { offers, count } = this.#taken.pop();
    this.story.cut(count);
    this.offers = offers;
  }
}

/** One sentence on its way. */
class Offer {
  #cutter = new Words();
  words = [];
  done = false;

  get text() {
    return this.words.map((word) => word.text).join("");
  }

  get ends() {
    return this.words.at(-1)?.text === "";
  }

  add(piece) {
    if (this.done) return;
    this.words.push(...this.#cutter.add(piece));
    const length = sentenceLength(this.text, piece.finish_reason !== null);
    if (length >= 0) this.#cut(length);
    this.done = length >= 0 || piece.finish_reason !== null;
  }

  /** Keep the words up to a character; a word across it (a point with a line break) is kept up to it. */
  #cut(length) {
    const ended = this.ends && this.text.trimEnd().length <= length;
    const end = this.words.at(-1);
    this.words = this.words
      .filter((word) => word.start < length && word.text)
      .map((word) => ({ ...word, text: word.text.slice(0, length - word.start) }));
    if (ended) this.words.push(end);
  }
}
