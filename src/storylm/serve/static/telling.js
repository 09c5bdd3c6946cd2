// A story told whole, by one model or by two side by side, on the same beginning and seed.

import { complete } from "./api.js";
import { announce } from "./notices.js";
import { ALTERNATIVES } from "./words.js";

/** Tell a story into `story` until it ends or `signal` says to stop. */
export async function tellInto(story, prompt, sampling, signal) {
  const began = performance.now();
  story.clear();
  story.say("Listening…");
  const request = { ...sampling, model: story.model.id, prompt, echo: true, logprobs: ALTERNATIVES };
  let ended = null;
  try {
    for await (const piece of complete(request, signal)) {
      story.add(piece, prompt.length);
      ended = piece.finish_reason ?? ended;
      story.say(`${story.drawn} tokens`);
    }
  } finally {
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    story.say(`${story.drawn} tokens in ${seconds} s. ${why(ended, story, sampling)}`);
  }
}

function why(ended, story, sampling) {
  if (ended === "stop") return "The model ended it.";
  if (ended === "length") return story.drawn < sampling.max_tokens ? "The model’s context is full." : "Cut at the most tokens.";
  return "Stopped.";
}

/** Say the whole story once to those who hear the page: word by word nobody could listen. */
export function speak(stories) {
  const spoken = document.getElementById("spoken");
  spoken.replaceChildren(
    ...stories.map((story) => {
      const text = document.createElement("p");
      text.textContent = stories.length > 1 ? `${story.model.id}: ${story.text}` : story.text;
      return text;
    }),
  );
  announce("");
}
