// The probability of every label as a bar, with a tick for the mood; always in the model's order.

import { byId, element, setAttribute, setHidden, setShare, setText } from "./elements.js";
import { tintOf } from "./tints.js";
import { percent } from "./words.js";

export class BarsView {
  constructor() {
    this.list = byId("bar-list");
    this.rows = new Map();
    this.made = "";
  }

  show(knowledge, now_ms) {
    this.make(knowledge.labels);
    const shown = knowledge.hasSignal && !knowledge.isOld(now_ms) ? knowledge.reading : null;
    for (const [label, row] of this.rows) {
      const share = shown?.probabilities[label] ?? null;
      const mood = shown?.mood_probabilities?.[label] ?? null;
      setShare(row.fill, share ?? 0);
      setHidden(row.tick, mood === null);
      setShare(row.tick, mood ?? 0);
      const words = share === null ? "–" : percent(share);
      setText(row.figure, words);
      setAttribute(row.meter, "aria-valuenow", share === null ? 0 : Math.round(100 * share));
      setAttribute(row.meter, "aria-valuetext", share === null ? "no reading" : words);
      setAttribute(row.item, "data-top", label === shown?.label ? "" : null);
    }
  }

  make(labels) {
    if (this.made === labels.join()) return;
    this.made = labels.join();
    this.rows = new Map(labels.map((label) => [label, makeRow(label, labels)]));
    this.list.replaceChildren(...[...this.rows.values()].map((row) => row.item));
  }
}

function makeRow(label, labels) {
  const fill = element("span", { class: "fill" });
  const tick = element("span", { class: "tick", hidden: "" });
  const meter = element(
    "span",
    { class: "track", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 },
    fill,
    tick,
  );
  const figure = element("span", { class: "figure", "aria-hidden": "true" });
  const name = element("span", { class: "name", "aria-hidden": "true" }, label);
  const item = element("li", { "data-tint": tintOf(label, labels) }, name, meter, figure);
  return { item, fill, tick, meter, figure };
}
