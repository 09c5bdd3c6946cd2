// The sentences on offer, as a list of buttons.

import { announce } from "./notices.js";

const at = (id) => document.getElementById(id);
let held = false; // whether the keyboard was here before what it held went

/** Show what can be chosen, unless something is on its way still; nothing where a story is told whole. */
export function showOffers(choosing, busy) {
  const section = at("offers");
  held ||= section.contains(document.activeElement);
  section.hidden = !choosing;
  if (!choosing) {
    held = false;
    return;
  }
  at("offer-list").replaceChildren(...choosing.offers.map((offer) => item(offer, busy)));
  section.querySelector("h2").textContent = choosing.over ? "The end." : "What comes next?";
  at("others").hidden = choosing.over;
  at("others").disabled = busy;
  at("back").disabled = !choosing.canStepBack;
  if (busy) return;
  const whole = choosing.offers.filter((offer) => offer.done).length;
  if (choosing.over) announce("The end.");
  else if (whole) announce(`${whole} sentences to choose from.`);
  if (held && !section.contains(document.activeElement)) focusIn(section);
  held = false;
}

/** Back to where the keyboard was, unless it went elsewhere by itself. */
function focusIn(section) {
  if (document.activeElement === document.body) section.querySelector("button:enabled")?.focus();
}

function item(offer, busy) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "offer";
  button.disabled = busy || !offer.done;
  button.textContent = offer.text.trim() || (offer.done ? "" : "…");
  if (offer.ends) {
    const end = document.createElement("em");
    end.textContent = " The end.";
    button.append(end);
  }
  const own = document.createElement("li");
  own.append(button);
  return own;
}
