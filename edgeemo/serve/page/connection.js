// The WebSocket: opens it, opens it again with growing pauses, and says how it is.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10000;
const SILENCE_MS = 10000; // a server says something twice a second; past this the line is dead

export class Connection {
  // onMessage(message) for each one; onChange({state, retryAt_ms}) with state
  // "connecting", "open", "waiting" or "refused" (the sign-in does not count any more).
  constructor({ path, onMessage, onChange }) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.url = `${scheme}//${location.host}${path}`;
    this.onMessage = onMessage;
    this.onChange = onChange;
    this.pause_ms = FIRST_PAUSE_MS;
    this.timer = null;
    this.socket = null;
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    this.leave();
    this.onChange({ state: "connecting", retryAt_ms: null });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.listen();
    socket.onmessage = ({ data }) => {
      const message = parsed(data);
      if (message === null) return;
      this.listen();
      if (message.type === "hello") this.onChange({ state: "open", retryAt_ms: null });
      if (message.type === "reading") this.pause_ms = FIRST_PAUSE_MS;
      if (message.type === "end") this.pause_ms = LONGEST_PAUSE_MS;
      this.onMessage(message);
    };
    socket.onclose = () => this.wait();
  }

  // Asked for by a person, or by the machine being online or in view again.
  retry() {
    if (this.timer === null) return;
    this.pause_ms = FIRST_PAUSE_MS;
    this.open();
  }

  listen() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.wait(), SILENCE_MS);
  }

  leave() {
    clearTimeout(this.watch);
    if (!this.socket) return;
    this.socket.onclose = this.socket.onmessage = null;
    this.socket.close();
    this.socket = null;
  }

  async wait() {
    this.leave();
    const pause_ms = this.pause_ms * (0.8 + 0.4 * Math.random()); // many pages must not come back at once
    this.pause_ms = Math.min(2 * this.pause_ms, LONGEST_PAUSE_MS);
    this.timer = setTimeout(() => this.open(), pause_ms);
    const retryAt_ms = performance.now() + pause_ms;
    this.onChange({ state: "waiting", retryAt_ms });
    const timer = this.timer;
    if (!(await isRefused()) || this.timer !== timer) return;
    this.pause_ms = LONGEST_PAUSE_MS; // asking more often would count as guessing tokens
    this.onChange({ state: "refused", retryAt_ms });
  }
}

// A browser does not say why a WebSocket was refused, so the same server is asked in a way that does.
async function isRefused() {
  try {
    const answer = await fetch("/v1/events?after=999999999", { cache: "no-store" });
    return [401, 403, 429].includes(answer.status); // 429: too many tries with a token that does not count
  } catch {
    return false; // nobody is there to ask
  }
}

function parsed(data) {
  try {
    const message = JSON.parse(data);
    return typeof message?.type === "string" ? message : null;
  } catch {
    return null;
  }
}
