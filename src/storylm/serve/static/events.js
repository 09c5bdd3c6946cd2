// Server-sent events (HTML Standard, 9.2), of which this server sends `data` lines alone.

/** The data of each event in a body of bytes. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield part.slice("data: ".length);
    }
  } finally {
    reader.cancel().catch(() => {}); // who stops listening wants no more of it
  }
}
