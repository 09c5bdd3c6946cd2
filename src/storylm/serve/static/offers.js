// The sentences on offer, as a list of buttons.

import { announce } from "./notices.js";

const at = (id) => document.getElementById(id);

/** Show what can be chosen; nothing where a story is told whole. */
export function showOffers(choosing) {
  const section = at("offers");
  const within = section.contains(document.activeElement);
  section.hidden = !choosing;
  if (!choosing) return;
  const ready = choosing.offers.length > 0 && choosing.offers.every((offer) => offer.done);
  at("offer-list").replaceChildren(...choosing.offers.map((offer) => item(offer, ready)));
  section.querySelector("h2").textContent = choosing.over ? "The end." : "What comes next?";
  at("others").hidden = choosing.over;
  at("others").disabled = !ready;
  at("back").disabled = !choosing.canStepBack;
  if (!ready && !choosing.over) return;
  announce(choosing.over ? "The end." : `${choosing.offers.length} sentences to choose from.`);
  if (within) (section.querySelector("li button") ?? at("back")).focus(); // what was pressed is gone
}

function item(offer, ready) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "offer";
  button.disabled = !ready;
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
