// Where a model looks: the attention of the chosen word, as shading behind those before it.

import { attention } from "./api.js";
import { report } from "./notices.js";
import { percent, shown } from "./words.js";

const PAUSE = 150; // ms on a word before the server is asked, for those who walk by
const MEAN = "mean";

/** Shades of one story. `on`: whether attention is what is to be seen. */
export class Gaze {
  #story;
  #answer = null; // {word, spans, weights} of the word that was asked for last
  #shares = null; // by word, of #answer as the pickers say
  #asking = null;
  #layer = select("Layer");
  #head = select("Head");
  #about = document.createElement("output");

  constructor(story) {
    this.#story = story;
    this.on = false;
    this.pickers = document.createElement("p");
    this.pickers.className = "pickers";
    this.pickers.append(this.#layer.label, this.#head.label, this.#about);
    for (const picker of [this.#layer, this.#head]) picker.field.addEventListener("change", () => this.#shade());
  }

  clear() {
    this.#asking?.abort();
    this.#answer = this.#shares = null;
    this.#shade();
  }

  /** Look from this word; `ready` is called when it is known where it looks. */
  async turn(word, ready) {
    if (!this.on || this.#answer?.word === word) return;
    this.#asking?.abort();
    const { signal } = (this.#asking = new AbortController());
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    if (signal.aborted) return;
    try {
      const answer = await attention(this.#story.model.id, this.#asked(word), signal);
      this.#answer = { word, ...answer };
    } catch (error) {
      if (error.name !== "AbortError") report(error, () => this.turn(word, ready));
      return;
    }
    this.#layer.fill(this.#answer.weights.length);
    this.#head.fill(this.#answer.weights[0].length);
    this.#shade();
    ready();
  }

  /** The words that this one looks at most, [[text, share]], if it is known. */
  seen(word) {
    if (!this.on || this.#answer?.word !== word) return null;
    const named = this.#shares.words.map((share, index) => [shown(this.#story.words[index].text), share]);
    named.push(["the start", this.#shares.start]);
    return named.sort((one, other) => other[1] - one[1]).slice(0, 6);
  }

  #shade() {
    const { words } = this.#story;
    for (const { element } of words) {
      element.style.removeProperty("--attention");
      delete element.dataset.attention;
    }
    this.#about.textContent = "";
    if (!this.#answer) return;
    this.#shares = this.#shared();
    const most = Math.max(...this.#shares.words, 1e-9); // the start takes what no word needs, so it is no measure
    this.#shares.words.forEach((share, index) => {
      words[index].element.style.setProperty("--attention", (share / most).toFixed(3));
      words[index].element.dataset.attention = share.toFixed(4);
    });
    this.#about.textContent = `“${shown(this.#answer.word.text)}” looks at the start itself with ${percent(this.#shares.start)}`;
  }

  /** The tokens that the model had before it, as they were drawn: told anew, the text might fall into others. */
  #asked(word) {
    const before = this.#story.words.slice(0, word.index + 1);
    const prompt = this.#story.text.slice(0, word.after);
    const tokens = before.filter((one) => one.given === word.given && one.after === word.after).flatMap((one) => one.tokens);
    // Of what was given the server makes the same tokens again; the first is the start.
    return word.given ? { prompt, token: tokens.length } : { prompt, token_ids: tokens.map((token) => token.id) };
  }

  /** {start, words[]}: a word's share is that of the tokens whose characters it has. */
  #shared() {
    const { spans, weights, word } = this.#answer;
    const layers = this.#layer.value === MEAN ? weights : [weights[this.#layer.value]];
    const heads = layers.flatMap((layer) => (this.#head.value === MEAN ? layer : [layer[this.#head.value]]));
    const share = (token) => heads.reduce((sum, head) => sum + head[token], 0) / heads.length;
    const words = this.#story.words.slice(0, word.index + 1);
    const shares = words.map(() => 0);
    const owners = words.flatMap(({ text, index }) => Array.from(text, () => index)); // of each code point
    spans.slice(1).forEach(([first, end], index) => {
      const length = Math.max(1, end - first);
      for (let at = first; at < first + length; at += 1) shares[owners[at] ?? word.index] += share(index + 1) / length;
    });
    return { start: share(0), words: shares };
  }
}

/** A picker of one of so many, or their mean. */
function select(name) {
  const field = document.createElement("select");
  const label = document.createElement("label");
  label.append(`${name} `, field);
  field.append(new Option(MEAN, MEAN));
  return {
    label,
    field,
    get value() {
      return field.value;
    },
    fill(count) {
      for (let index = field.options.length - 1; index < count; index += 1) field.append(new Option(index + 1, index));
    },
  };
}
