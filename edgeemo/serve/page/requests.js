// Asks the server to change something; what goes wrong comes back as a sentence.

const PATIENCE_MS = 10000;

export async function put(path, body) {
  return send("PUT", path, body);
}

export async function remove(path) {
  return send("DELETE", path, null);
}

async function send(method, path, body) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  const options = { method, signal: patience.signal, cache: "no-store" };
  if (body !== null) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  try {
    const answer = await fetch(path, options);
    const said = await answer.json().catch(() => null);
    if (answer.ok) return said;
    throw new Error(sentenceOf(said) ?? `the server answered ${answer.status}`);
  } catch (problem) {
    if (problem.name === "AbortError") throw new Error("no answer within 10 s");
    if (problem instanceof TypeError) throw new Error("the server cannot be reached");
    throw problem;
  } finally {
    clearTimeout(timer);
  }
}

function sentenceOf(said) {
  for (const key of ["why", "error", "detail", "message"]) {
    if (typeof said?.[key] === "string") return said[key];
  }
  return null;
}
