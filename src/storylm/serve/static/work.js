// What is on its way: one thing at a time, which the same button begins and stops.

import { clearNotice, report } from "./notices.js";

const at = (id) => document.getElementById(id);
let running = null; // aborts it

export const busy = () => running !== null && !running.signal.aborted;

export const stop = () => running?.abort();

/** Do what takes a while, instead of what is on its way; `retry` is what "Try again" does, `over` hears of the end. */
export async function run(work, retry, over) {
  stop();
  const own = (running = new AbortController());
  clearNotice();
  show(true);
  try {
    await work(own.signal);
  } catch (error) {
    report(error, retry);
  }
  if (running !== own) return;
  running = null;
  show(false);
  over();
}

function show(on) {
  at("tell").textContent = on ? "Stop" : "Tell the story";
  at("tell").classList.toggle("stops", on);
  at("stories").setAttribute("aria-busy", String(on));
}
