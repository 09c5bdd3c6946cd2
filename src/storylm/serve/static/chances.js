// How likely a word was and what else could have come, for those who see it and for those who hear it.

import { ALTERNATIVES, nats, percent, shown } from "./words.js";

/** {note, rows: [[text, share, whether it was drawn]]} of a word; `within`: it goes on with a word before it. */
export function chances(word, within) {
  const own = nats(word);
  if (own === null) return { note: "Where the story begins.", rows: [] };
  const first = word.tokens[0];
  const drawn = word.tokens.length === 1 ? first.text : null;
  const note = drawn === null ? `${word.tokens.length} tokens together` : `${order(first)}; ${(-own).toFixed(3)} nats`;
  return {
    note: word.given ? `given, not drawn; ${note}` : note,
    rows: first.instead.map(([text, value]) => [shown(text, within), Math.exp(value), text === drawn]),
  };
}

/** The same as a sentence: a screen reader says it after the word and its likelihood. */
export function inWords({ note, rows }) {
  const others = rows.filter(([, , drawn]) => !drawn);
  return others.length ? `${note}. What else could have come: ${list(others)}.` : note;
}

/** Where the word looks, as a sentence. */
export const looksInWords = (gaze) => `looks at: ${list(gaze)}.`;

const list = (rows) => rows.map(([text, share]) => `${text.trim()} ${percent(share)}`).join(", ");

/** Which it is of the likeliest; the server adds what was drawn to them where it is none. */
function order({ text, instead }) {
  const rank = instead.findIndex(([other]) => other === text) + 1;
  if (rank === 1) return "the likeliest";
  return rank && rank <= ALTERNATIVES ? `number ${rank}` : `beyond the first ${ALTERNATIVES}`;
}
