// What happened, newest first.

import { byId, element, sign } from "./elements.js";
import { clockTime, sentence } from "./words.js";

const SHOWN = 60;
const FELT = ["emotion_changed", "mood_changed"];
const SIGNS = {
  state_changed: "sign-unknown",
  subset_changed: "sign-mixed",
  emotion_changed: "sign-quiet",
  mood_changed: "sign-quiet",
  reloaded: "sign-live",
  engine_changed: "sign-mixed",
  notice_acknowledged: "sign-live",
  reload_failed: "sign-poor",
  engine_set_aside: "sign-poor",
  move_failed: "sign-poor",
  callback_failed: "sign-poor",
};

export class EventsView {
  constructor({ onChange }) {
    this.list = byId("event-list");
    this.all = byId("events-all");
    this.shown = null;
    this.all.addEventListener("change", onChange);
  }

  show(knowledge, now_ms) {
    const { events } = knowledge;
    const key = `${knowledge.openedAt_ms} ${events.at(-1)?.number ?? 0} ${this.all.checked}`;
    if (this.shown === key) return;
    this.shown = key;
    const now_s = knowledge.sessionTime_s(now_ms);
    const chosen = events.filter((event) => this.all.checked || !FELT.includes(event.kind));
    const rows = chosen.slice(-SHOWN).reverse().map((event) => rowOf(event, now_s));
    if (!rows.length) rows.push(element("li", { class: "soft" }, "Nothing happened yet."));
    this.list.replaceChildren(...rows);
  }
}

function rowOf(event, now_s) {
  const when = now_s === null ? "" : clockTime(Date.now() - 1000 * (now_s - event.time_s));
  const state = event.detail?.to ?? event.detail?.state;
  const known = event.kind === "state_changed" && typeof state === "string" && document.getElementById(`sign-${state}`);
  return element(
    "li",
    {},
    element("time", { class: "soft" }, when),
    sign(known ? `sign-${state}` : (SIGNS[event.kind] ?? "sign-quiet")),
    element("span", {}, sentence(event.message)),
  );
}
