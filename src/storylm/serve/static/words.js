// Tokens and the text that they became, side by side: a word of the page is a piece of text with its tokens.
//
// Nearly always that is one token. A character of several tokens has no text before the last of them comes, and some
// tokenizers drop the space of a first word, so the text is what counts and tokens are laid along it.

export const ALTERNATIVES = 5; // that are asked for to each token

/**
 * A completion's pieces as words {text, start, tokens: [{text, nats, instead: [[text, nats], ...]}]}, where `start`
 * counts characters of the whole text. A word whose text is "" is the end of the story.
 */
export class Words {
  #waiting = []; // tokens whose text has not come yet

  constructor(start = 0) {
    this.start = start;
  }

  /** The words that are certain with this piece. */
  add({ text, logprobs, finish_reason: ended }) {
    const words = [];
    let at = 0;
    const take = (end, tokens) => {
      if (end > at || tokens.length) words.push({ text: text.slice(at, end), start: this.start + at, tokens });
      at = end;
    };
    for (const token of tokensOf(logprobs)) {
      const found = find(token.text, text, at, this.#waiting);
      if (!found) {
        this.#waiting.push(token);
        continue;
      }
      if (found.begin > at) take(found.begin, this.#waiting.splice(0));
      take(found.end, [...this.#waiting.splice(0), token]);
    }
    if (at < text.length) take(text.length, this.#waiting.splice(0));
    if (ended === "stop" && this.#waiting.length) take(at, this.#waiting.splice(0).slice(-1));
    this.start += text.length;
    return words;
  }
}

/** Where a token's text stands at or shortly after `at`: not further on than what waits could fill. */
function find(token, text, at, waiting) {
  if (!token || token.includes("\uFFFD")) return null;
  const room = waiting.reduce((sum, one) => sum + Math.max(4, one.text.length), 0);
  for (const form of waiting.length || at ? [token] : [token, token.trimStart()]) {
    const begin = form ? text.indexOf(form, at) : -1;
    if (begin >= 0 && begin - at <= room) return { begin, end: begin + form.length };
  }
  return null;
}

function tokensOf(logprobs) {
  return (logprobs?.tokens ?? []).map((text, index) => ({
    text,
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
  const signs = text.replaceAll("\n", "↵").replace(/^ (?=\S)/, "");
  return within && /^\p{L}/u.test(text) ? `…${signs}` : signs.replace(/^[\s\p{C}]+$/u, "␣");
}
