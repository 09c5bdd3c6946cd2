// Choose your own next sentence: three are offered, one is taken, and so on to the end.

import { complete } from "./api.js";
import { sentenceLength } from "./sentences.js";
import { ALTERNATIVES, Words } from "./words.js";

const OFFERS = 3;
const LONGEST = 96; // tokens of a sentence
const OTHERS = "o";
const PATH = new RegExp(`^[1-${OFFERS}${OTHERS}]*$`);

/**
 * A story in the making. `path` is how it came there, a character for each step: the number of the sentence that was
 * taken, or `OTHERS` where three others were asked for. With the settings it says all, so a link keeps it.
 */
export class Choosing {
  #taken = []; // what there was before each sentence that was taken: {offers, path, count of words}

  constructor(story, prompt, sampling) {
    Object.assign(this, { story, prompt, sampling, offers: [], path: "" });
    story.clear();
  }

  get canStepBack() {
    return this.#taken.length > 0;
  }

  get over() {
    return this.story.ended;
  }

  /**
   * Ask for three sentences; `changed` hears as they grow. All three, of which `offers` leaves out what is said twice.
   * Their seeds follow from the first and the number of steps, so that the same path leads to the same story.
   */
  async offer(signal, changed) {
    if (this.story.text.length < this.prompt.length) await this.#begin(signal);
    const seed = (this.sampling.seed + OFFERS * this.path.length) % 2 ** 31;
    const offers = Array.from({ length: OFFERS }, (_, index) => new Offer(index + 1));
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
    return offers;
  }

  /** Go the way of a link, to the three that come after it. */
  async follow(path, signal, changed) {
    for (const step of PATH.test(path) ? path : "") {
      if (step === OTHERS) this.leave();
      else this.take((await this.offer(signal, changed))[step - 1]);
      if (this.over) return;
    }
    await this.offer(signal, changed);
  }

  take(offer) {
    this.#taken.push({ offers: this.offers, path: this.path, count: this.story.words.length });
    this.story.push(offer.words);
    this.path += offer.number;
    this.offers = [];
  }

  /** Take none of them: the next are others. */
  leave() {
    this.path += OTHERS;
    this.offers = [];
  }

  stepBack() {
    const { offers, path, count } = this.#taken.pop();
    this.story.cut(count);
    Object.assign(this, { offers, path });
  }

  /** The beginning, with its likelihoods. */
  async #begin(signal) {
    this.story.clear();
    const request = { model: this.story.model.id, prompt: this.prompt, max_tokens: 0, echo: true, logprobs: ALTERNATIVES };
    for await (const piece of complete(request, signal)) this.story.add(piece, this.prompt.length);
  }
}

/** One sentence on its way. */
class Offer {
  #cutter = new Words();
  words = [];
  done = false;

  constructor(number) {
    this.number = number;
  }

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
