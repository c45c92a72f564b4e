// Emotion, mood, sensors in use and engine swaps over the last five minutes.

import { byId, element, setText, svgElement } from "./elements.js";
import { KEPT_S } from "./history.js";
import { tintOf } from "./tints.js";
import { listed, modalityWords, percent } from "./words.js";

const NO_SIGNAL = "no signal";
const REDRAW_MS = 450;

export class TimelineView {
  constructor() {
    this.frame = byId("strips");
    this.summary = byId("timeline-summary");
    this.made = null;
    this.drawnAt_ms = -Infinity;
  }

  show(knowledge, now_ms) {
    const { hello, history } = knowledge;
    if (!hello) return;
    if (this.made !== hello) this.make(hello);
    if (now_ms - this.drawnAt_ms < REDRAW_MS) return;
    this.drawnAt_ms = now_ms;
    const now_s = knowledge.sessionTime_s(now_ms);
    if (now_s === null) return;
    this.drawRuns(history, now_s - KEPT_S, now_s);
    setText(this.summary, summaryOf(history, now_s));
  }

  drawRuns(history, from_s, now_s) {
    const place = (run) => {
      const x = Math.max(0, run.from_s - from_s);
      return { x: x.toFixed(2), width: Math.max(0.3, Math.min(run.to_s, now_s) - from_s - x).toFixed(2) };
    };
    const inView = (run) => run.to_s > from_s;
    const rows = [];
    for (const run of history.runs((point) => (point.subset === null ? NO_SIGNAL : (point.emotion ?? point.label))).filter(inView)) {
      const row = this.labels.indexOf(run.value);
      const tint = run.value === NO_SIGNAL ? "none" : tintOf(run.value, this.labels);
      if (row >= 0) rows.push(svgElement("rect", { ...place(run), y: row + 0.12, height: 0.52, "data-tint": tint }));
    }
    for (const run of history.runs((point) => point.mood).filter(inView)) {
      const row = this.labels.indexOf(run.value);
      const tint = tintOf(run.value, this.labels);
      if (row >= 0) rows.push(svgElement("rect", { ...place(run), y: row + 0.76, height: 0.14, "data-tint": tint }));
    }
    this.modalities.forEach((modality, index) => {
      const serves = (point) => (point.subset?.split("+").includes(modality) ? modality : null);
      const y = this.labels.length + 1 + index + 0.35;
      for (const run of history.runs(serves).filter(inView)) {
        rows.push(svgElement("rect", { class: "served", ...place(run), y, height: 0.3 }));
      }
    });
    for (const time_s of history.swaps()) {
      const [x, y] = [(time_s - from_s).toFixed(2), this.labels.length];
      if (time_s > from_s) rows.push(svgElement("path", { class: "swap", d: `M${x} ${y + 0.12}V${y + 0.88}` }));
    }
    this.marks.replaceChildren(...rows);
  }

  make(hello) {
    this.made = hello;
    this.labels = [...hello.labels, NO_SIGNAL];
    this.modalities = hello.modalities;
    const count = this.labels.length + 1 + this.modalities.length; // one for the swaps
    const names = element(
      "ul",
      { class: "plain row-names", "aria-hidden": "true" },
      ...this.labels.map((label) => element("li", {}, label)),
      element("li", { class: "soft" }, "engine swap"),
      ...this.modalities.map((name) => element("li", { class: "soft" }, modalityWords(name).device.toLowerCase())),
    );
    const lines = Array.from({ length: count + 1 }, (_, row) => `M0 ${row}H${KEPT_S}`).join("");
    const minutes = [60, 120, 180, 240].map((x) => `M${x} 0V${count}`).join("");
    this.marks = svgElement("g");
    const chart = svgElement(
      "svg",
      { viewBox: `0 0 ${KEPT_S} ${count}`, preserveAspectRatio: "none", role: "img", "aria-labelledby": "timeline-title timeline-summary" },
      svgElement("path", { class: "grid", d: lines + minutes }),
      svgElement("path", { class: "border", d: `M0 ${this.labels.length}H${KEPT_S}` }),
      this.marks,
    );
    const axis = element(
      "p",
      { class: "time-axis soft", "aria-hidden": "true" },
      ...["−5 min", "−4", "−3", "−2", "−1", "now"].map((words) => element("span", {}, words)),
    );
    this.frame.style.setProperty("--rows", count);
    this.frame.replaceChildren(names, chart, axis);
    this.drawnAt_ms = -Infinity;
  }
}

// The same in words: for who cannot see the picture, and for who wants the sum of it.
function summaryOf(history, now_s) {
  const runs = history.runs((point) => (point.subset === null ? NO_SIGNAL : (point.emotion ?? point.label)));
  const spans = new Map();
  let seen_s = 0;
  for (const { value, from_s, to_s } of runs) {
    const span_s = Math.min(to_s, now_s) - Math.max(from_s, now_s - KEPT_S);
    if (span_s <= 0) continue;
    spans.set(value, (spans.get(value) ?? 0) + span_s);
    seen_s += span_s;
  }
  if (!seen_s) return "Nothing was read in the last five minutes.";
  const shares = [...spans].sort((one, other) => other[1] - one[1]).map(([label, span_s]) => `${label} ${percent(span_s / seen_s)}`);
  const swaps = history.swaps().length;
  return `Of what was read: ${listed(shares)}; ${swaps} ${swaps === 1 ? "swap" : "swaps"}.`;
}
