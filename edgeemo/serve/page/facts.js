// What computes, how fast, and how often it changed.

import { byId, element, setText } from "./elements.js";
import { duration, milliseconds, seconds } from "./words.js";

const FACTS = [
  ["Sensors in use", (known) => known.shown?.subset ?? "none"],
  ["Engine", (known) => known.shown?.engine ?? "none"],
  ["Backend", (known) => known.shown?.backend ?? "none"],
  ["Age of the data", (known) => (known.shown ? seconds(known.shown.age_s ?? 0) : "–")],
  ["Time for a reading", ({ status }) => latencyOf(status?.latency_ms)],
  ["Readings", ({ status }) => counted(status?.hops)],
  ["Missed hops", ({ status }) => counted(status?.late_hops)],
  ["Engine swaps", ({ status }) => counted(status?.swaps)],
  ["Session runs for", ({ time_s }) => (time_s === null ? "–" : duration(time_s))],
  ["Pages open", ({ status }) => counted(status?.clients)],
];

export class FactsView {
  constructor() {
    this.values = FACTS.map(([name]) => {
      const value = element("dd");
      byId("fact-list").append(element("div", {}, element("dt", {}, name), value));
      return value;
    });
  }

  show(knowledge, now_ms) {
    const isDeaf = knowledge.isDeaf(now_ms);
    const known = {
      shown: knowledge.hasSignal && !knowledge.isOld(now_ms) ? knowledge.reading : null,
      status: isDeaf ? null : knowledge.status,
      time_s: isDeaf ? null : knowledge.sessionTime_s(now_ms),
    };
    FACTS.forEach(([, say], index) => setText(this.values[index], say(known)));
  }
}

function latencyOf(latency_ms) {
  if (!latency_ms) return "–";
  return `p50 ${milliseconds(latency_ms.p50)}, p95 ${milliseconds(latency_ms.p95)}`;
}

function counted(value) {
  return typeof value === "number" ? value.toLocaleString("en-GB") : "–";
}
