// What goes wrong, as the server says it, and what can be done about it; and what a screen reader is told.

import { useKey } from "./api.js";

const at = (id) => document.getElementById(id);
let counting = 0;

/** Say an error; `retry` does again what failed. */
export function report(error, retry) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    askKey(error, retry);
    return;
  }
  const again = at("again");
  at("notice").hidden = false;
  again.hidden = false;
  again.onclick = () => {
    clearNotice();
    retry();
  };
  if (error.retryAfter) count(error, error.retryAfter);
  else tell(error.message);
}

export function clearNotice() {
  clearInterval(counting);
  at("notice").hidden = true;
  at("notice-text").textContent = "";
}

/** Say something quietly, for those who hear the page. */
export const announce = (text) => { at("status").textContent = text; };

function tell(text) {
  clearInterval(counting);
  at("again").disabled = false;
  at("again").textContent = "Try again"; // not the seconds of a refusal before this one
  at("notice-text").textContent = text;
}

/** The seconds until one may come again, counted down in the button: the alert itself is read once. */
function count(error, seconds) {
  tell(`${sentence(error.message)} It asks to wait for ${seconds} s.`);
  const again = at("again");
  const end = performance.now() + 1000 * seconds;
  const tick = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    again.disabled = left > 0;
    again.textContent = left > 0 ? `Again in ${left} s` : "Try again";
    if (left <= 0) clearInterval(counting);
  };
  counting = setInterval(tick, 250);
  tick();
}

/** The server's words as a sentence of this page. */
function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function askKey(error, retry) {
  const dialog = at("ask-key");
  at("key-why").textContent = `It says: ${error.message}`;
  at("key").value = "";
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "use") {
      useKey(at("key").value);
      at("key").value = "";
      clearNotice();
      retry();
    } else {
      report({ ...error, status: 0, message: "Without its key this server tells no stories." }, retry);
    }
  };
  if (!dialog.open) dialog.showModal();
}
