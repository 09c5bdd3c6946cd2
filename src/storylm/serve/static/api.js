// The server's API: models, completions as they stream, attention. The key is in this module's memory alone.

import { events } from "./events.js";

const ROOT = new URL("../", import.meta.url);
let key = "";

export const useKey = (given) => { key = given; };

/** The server's refusal, as it says it; `status` is 0 where there was no answer. */
export class ServerError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}

/** [{id, context, parameters}] */
export async function models() {
  return (await (await ask("v1/models")).json()).data;
}

/** {spans: [[first, end]] in code points, weights[layers][heads][tokens]} of the token that `asked` names. */
export async function attention(model, asked, signal) {
  return (await ask("v1/attention", { model, ...asked }, signal)).json();
}

/** The pieces {index, text, logprobs, token_ids, finish_reason} of a completion as they come. */
export async function* complete(request, signal) {
  const response = await ask("v1/completions", { ...request, stream: true }, signal);
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const said = JSON.parse(data);
      if (said.error) throw new ServerError(500, said.error.message);
      yield* said.choices;
    }
  } catch (error) {
    if (error instanceof ServerError || error.name === "AbortError") throw error;
  }
  throw new ServerError(0, "The server went away in the middle of the story. What came before is kept.");
}

async function ask(path, body, signal) {
  const headers = {};
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  const request = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  const response = await fetch(new URL(path, ROOT), request).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, `The server at ${ROOT.host} does not answer. Is it still running?`);
  });
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const said = await response.json().catch(() => null);
  const message = said?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`;
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ServerError(response.status, message, Number.isNaN(seconds) ? null : seconds);
}
