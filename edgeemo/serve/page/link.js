// How the connection is, the warning that what is shown is old, and the name of what runs.

import { byId, setHidden, setText, showState } from "./elements.js";
import { duration, sentence } from "./words.js";

export class LinkView {
  constructor({ onRetry }) {
    this.pill = byId("connection");
    this.retry = byId("retry");
    this.signIn = byId("sign-in");
    this.banner = byId("staleness");
    this.model = byId("model");
    this.retry.addEventListener("click", onRetry);
  }

  show(knowledge, now_ms) {
    const { link, hello } = knowledge;
    const [state, words] = pillOf(knowledge, now_ms);
    showState(this.pill, state, words);
    setHidden(this.retry, link.state !== "waiting");
    setHidden(this.signIn, link.state !== "refused");
    if (hello) setText(this.model, `${hello.model} · edgeemo ${hello.version}`);
    const warning = warningOf(knowledge, now_ms);
    setHidden(this.banner, warning === "");
    setText(this.banner, warning);
    document.body.classList.toggle("deaf", knowledge.isDeaf(now_ms));
    document.body.classList.toggle("old", knowledge.isOld(now_ms));
  }
}

function pillOf(knowledge, now_ms) {
  const { link, ended } = knowledge;
  if (ended !== null) return ["absent", "ended"];
  if (link.state === "refused") return ["lost", "not signed in"];
  if (link.state === "waiting") {
    return ["lost", `reconnecting in ${Math.max(1, Math.ceil((link.retryAt_ms - now_ms) / 1000))} s`];
  }
  if (link.state === "connecting") return ["busy", knowledge.hello ? "reconnecting" : "connecting"];
  return knowledge.isDeaf(now_ms) ? ["poor", "no news"] : ["live", "live"];
}

function warningOf(knowledge, now_ms) {
  if (knowledge.ended !== null) return `The session has ended: ${sentence(knowledge.ended)}`;
  const silence_s = knowledge.silence_s(now_ms);
  if (knowledge.isDeaf(now_ms)) {
    if (silence_s === null) return "";
    return `No news for ${duration(silence_s)}. What is shown is old.`;
  }
  const age_s = knowledge.readingAge_s(now_ms);
  if (age_s !== null && knowledge.isOld(now_ms)) return `No reading for ${duration(age_s)}. The server still answers.`;
  return "";
}
