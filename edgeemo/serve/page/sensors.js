// One card for each sensor: how it is and why, what comes from it, and a button that closes the device.

import { byId, element, setAttribute, setHidden, setShare, setText, showState, sign } from "./elements.js";
import { meterOf } from "./meters.js";
import { put } from "./requests.js";
import { duration, modalityWords, percent, sentence } from "./words.js";

const PATIENCE_MS = 8000;

export class SensorsView {
  constructor({ onChange }) {
    this.section = byId("sensors");
    this.cards = new Map();
    this.onChange = onChange;
    this.made = "";
  }

  show(knowledge, now_ms) {
    this.make(knowledge.hello?.modalities ?? []);
    for (const card of this.cards.values()) card.show(knowledge, now_ms);
    setAttribute(this.section, "data-cards", this.cards.size + (knowledge.hello?.preview ? 1 : 0));
  }

  make(modalities) {
    if (this.made === modalities.join()) return;
    this.made = modalities.join();
    for (const card of this.cards.values()) card.node.remove();
    this.cards = new Map(modalities.map((name) => [name, new SensorCard(name, this.onChange)]));
    this.section.append(...[...this.cards.values()].map((card) => card.node));
  }
}

class SensorCard {
  constructor(modality, onChange) {
    const { device, icon } = modalityWords(modality);
    this.modality = modality;
    this.device = device;
    this.onChange = onChange;
    this.wanted = null; // whether it is to be muted, while that is not so yet
    this.state = element("p", { class: "pill" });
    this.since = element("span", { class: "soft since" });
    this.why = element("p", { class: "why" });
    this.fill = element("span", { class: "fill" });
    this.track = element("span", { class: "track", role: "meter", "aria-label": `${device} level` }, this.fill);
    this.figure = element("span", { class: "figure" });
    this.rate = element("p", { class: "soft rate" });
    this.button = element("button", { type: "button" });
    this.problem = element("p", { class: "problem", role: "alert" });
    this.button.addEventListener("click", () => this.toggle());
    const title = element("h3", {}, sign(icon, "icon"), device);
    this.node = element(
      "div",
      { class: "card sensor", role: "group", "aria-label": device, "data-modality": modality },
      element("div", { class: "sensor-top" }, title, this.button),
      element("div", { class: "sensor-state" }, this.state, this.since),
      this.why,
      element("div", { class: "meter" }, this.track, this.figure),
      this.rate,
      this.problem,
    );
  }

  show(knowledge, now_ms) {
    this.isMuted = knowledge.status?.muted?.includes(this.modality) ?? false;
    const isDeaf = knowledge.isDeaf(now_ms);
    const status = isDeaf ? null : knowledge.stateOf(this.modality);
    const state = status?.state ?? "unknown";
    setAttribute(this.node, "data-state", state);
    showState(this.state, state, state);
    const since_s = status?.since_s ?? null;
    const held_s = since_s === null ? null : knowledge.sessionTime_s(now_ms) - since_s;
    setText(this.since, held_s === null ? "" : `for ${duration(held_s)}`);
    setText(this.why, whyOf(state, status, knowledge, this.modality));
    this.showMeter(isDeaf ? null : knowledge.status, state);
    setText(this.rate, isDeaf ? "" : rateOf(knowledge.status?.sensors?.[this.modality]));
    this.showButton(knowledge, now_ms);
  }

  showMeter(status, state) {
    const isShut = state === "muted" || state === "absent" || state === "lost";
    const meter = isShut ? null : meterOf(this.modality, status?.meters?.[this.modality]);
    setShare(this.fill, meter?.share ?? 0);
    setText(this.figure, meter?.words ?? "–");
    setAttribute(this.track, "aria-valuemin", 0);
    setAttribute(this.track, "aria-valuemax", 100);
    setAttribute(this.track, "aria-valuenow", Math.round(100 * (meter?.share ?? 0)));
    setAttribute(this.track, "aria-valuetext", meter?.words ?? "nothing comes");
  }

  showButton(knowledge, now_ms) {
    if (this.wanted === this.isMuted) this.wanted = null;
    if (this.wanted !== null && now_ms - this.askedAt_ms > PATIENCE_MS) {
      const hoped = this.wanted ? "closed" : "opened";
      this.wanted = null;
      setText(this.problem, `The server took the request, but after 8 s the device is not said to be ${hoped}.`);
    }
    const isPending = this.wanted !== null;
    const verb = isPending ? (this.wanted ? "Closing…" : "Opening…") : this.isMuted ? "Unmute" : "Mute";
    setText(this.button, verb);
    setAttribute(this.button, "aria-label", `${verb} ${this.device.toLowerCase()}`);
    setAttribute(this.button, "aria-busy", isPending ? "true" : null);
    setAttribute(this.button, "aria-disabled", isPending || !knowledge.isConnected ? "true" : null);
  }

  async toggle() {
    if (this.button.getAttribute("aria-disabled") === "true") return;
    this.wanted = !this.isMuted;
    this.askedAt_ms = performance.now();
    setText(this.problem, "");
    this.onChange();
    try {
      await put(`/v1/modalities/${encodeURIComponent(this.modality)}`, { muted: this.wanted });
    } catch (problem) {
      this.wanted = null;
      setText(this.problem, sentence(`Nothing was changed: ${problem.message}`));
    }
    this.onChange();
  }
}

function whyOf(state, status, knowledge, modality) {
  if (status?.why) return sentence(status.why);
  if (state === "live") return `Usable. ${opinionOf(knowledge.reading, modality)}`;
  if (state !== "unknown") return "";
  if (knowledge.needsNotice) return "Not opened before the notice is acknowledged.";
  return "Not known now.";
}

// What this sense says on its own, so that a contradiction can be seen for what it is.
function opinionOf(reading, modality) {
  const shares = reading?.modality_probabilities?.[modality];
  if (!shares) return "";
  const [label, share] = Object.entries(shares).reduce((best, one) => (one[1] > best[1] ? one : best));
  return `Alone it says ${label}, ${percent(share)}.`;
}

function rateOf(sensor) {
  if (!sensor) return "";
  const parts = [];
  if (sensor.rate !== null && sensor.declared_rate) {
    parts.push(`${Math.round((100 * sensor.rate) / sensor.declared_rate)} % of its declared rate`);
  }
  if (sensor.drops) parts.push(`${sensor.drops} dropped`);
  if (sensor.reconnects) parts.push(`reopened ${sensor.reconnects}×`);
  return parts.join(" · ");
}
