// Says aloud, for screen readers, what a person must know: seldom, and only what changed for good.

import { byId, setText } from "./elements.js";
import { modalityWords } from "./words.js";

const SETTLE_MS = 1500; // what comes and goes within this is not worth a word
const PAUSE_MS = 5000;

export class Announcer {
  constructor() {
    this.node = byId("announcer");
    this.said = new Map();
    this.seen = new Map();
    this.spokeAt_ms = -Infinity;
  }

  show(knowledge, now_ms) {
    for (const [topic, words] of topicsOf(knowledge, now_ms)) {
      if (this.seen.get(topic)?.words !== words) this.seen.set(topic, { words, at_ms: now_ms });
    }
    if (now_ms - this.spokeAt_ms < PAUSE_MS) return;
    const news = [];
    for (const [topic, { words, at_ms }] of this.seen) {
      if (now_ms - at_ms < SETTLE_MS || this.said.get(topic) === words) continue;
      this.said.set(topic, words);
      news.push(words);
    }
    if (!news.length) return;
    this.spokeAt_ms = now_ms;
    setText(this.node, `${news.join(". ")}.`);
  }
}

function topicsOf(knowledge, now_ms) {
  if (knowledge.ended !== null) return [["link", "The session has ended"]];
  if (knowledge.isDeaf(now_ms)) return [["link", "No news from the server; what is shown is old"]];
  const topics = [["link", "Connected"]];
  if (knowledge.needsNotice) return [...topics, ["signal", "A notice waits to be acknowledged"]];
  if (knowledge.isOld(now_ms)) return [...topics, ["signal", "No reading comes"]];
  topics.push(["signal", knowledge.hasSignal ? "There is a signal" : "No signal"]);
  for (const modality of knowledge.hello?.modalities ?? []) {
    const state = knowledge.stateOf(modality)?.state;
    if (state) topics.push([modality, `${modalityWords(modality).device} ${state}`]);
  }
  return topics;
}
