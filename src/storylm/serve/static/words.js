// Tokens and the text that they became, side by side: a word of the page is a piece of text with its tokens.
//
// Nearly always that is one token. A character of several tokens has no text before the last of them comes, so the
// tokens that the server says begin at one character are one word. It counts code points; a string here, UTF-16 units.

export const ALTERNATIVES = 5; // that are asked for to each token

/**
 * A completion's pieces as words {text, start, tokens: [{id, text, at, nats, instead: [[text, nats], ...]}]}, where
 * `start` is the word's place in the whole text. A word whose text is "" is the end of the story.
 */
export class Words {
  #start = 0; // of the text that no word has yet
  #at = 0; // the same in code points
  #rest = []; // that text, by code points
  #waiting = []; // tokens whose text has not come yet

  /** The words that are certain with this piece. */
  add({ text, logprobs, token_ids: ids, finish_reason: ended }) {
    this.#rest.push(...text);
    this.#waiting.push(...tokensOf(logprobs, ids));
    const words = [];
    const come = () => this.#at + this.#rest.length;
    while (this.#waiting.length && this.#waiting[0].at < come()) {
      const more = this.#waiting.findIndex((token) => token.at > this.#waiting[0].at);
      const count = more < 0 ? this.#waiting.length : more;
      words.push(this.#take(Math.min(come(), this.#waiting[count]?.at ?? come()), this.#waiting.splice(0, count)));
    }
    if (ended && this.#rest.length) words.push(this.#take(come(), []));
    if (ended === "stop" && this.#waiting.length) words.push(this.#take(come(), this.#waiting.splice(0).slice(-1)));
    return words;
  }

  /** The text up to code point `end` as a word. */
  #take(end, tokens) {
    const text = this.#rest.splice(0, end - this.#at).join("");
    const word = { text, start: this.#start, tokens };
    this.#start += text.length;
    this.#at = end;
    return word;
  }
}

function tokensOf(logprobs, ids) {
  return (logprobs?.tokens ?? []).map((text, index) => ({
    id: ids[index],
    text,
    at: logprobs.text_offset[index],
    nats: logprobs.token_logprobs[index],
    instead: Object.entries(logprobs.top_logprobs[index] ?? {}).sort((one, other) => other[1] - one[1]),
  }));
}

/** The nats of all of a word's tokens together; null where the model was not asked. */
export function nats(word) {
  if (!word.tokens.length || word.tokens.some((token) => token.nats === null)) return null;
  return word.tokens.reduce((sum, token) => sum + token.nats, 0);
}

export const LETTERS_BEFORE = /\p{L}+$/u;

/** Whether a word's text goes on with what stands before it. */
export const goesOn = (word, before) => LETTERS_BEFORE.test(before) && !/^\s/.test(word.text);

/** A share as people read it. */
export function percent(share) {
  if (share < 0.0005) return "< 0.1 %";
  if (share > 0.9995) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

/** A token as it is shown by itself: what cannot be seen has a sign, what goes on with a word begins with dots. */
export function shown(text, within = false) {
  if (text === "") return "the end";
  if (/^<\|.*\|>$|^<\/?s>$/.test(text)) return "the end";
  if (text.startsWith("bytes:")) return text.slice("bytes:".length); // a part of a character, as \xe2\x80
  const signs = text.replaceAll("\n", "↵").replace(/^ (?=\S)/, "");
  return within && /^\p{L}/u.test(text) ? `…${signs}` : signs.replace(/^[\s\p{C}]+$/u, "␣");
}
