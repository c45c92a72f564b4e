// Everything the page knows, and how old it is. No element is touched here.

import { History, pointOf } from "./history.js";

const STALE_MS = 2000;
const KEPT_EVENTS = 100;
const CLEAR_CONTRADICTION = 0.75;

export class Knowledge {
  constructor() {
    this.link = { state: "connecting", retryAt_ms: null };
    this.hello = null;
    this.reading = null;
    this.readingAt_ms = null;
    this.status = null;
    this.notice = null;
    this.ended = null;
    this.events = [];
    this.history = new History();
    this.messageAt_ms = null;
    this.openedAt_ms = performance.now();
  }

  take(message, now_ms) {
    this.messageAt_ms = now_ms;
    if (message.type === "hello") this.greet(message, now_ms);
    else if (message.type === "reading") this.takeReading(message.reading, now_ms);
    else if (message.type === "status") this.takeStatus(message);
    else if (message.type === "event") this.takeEvent(message.event);
    else if (message.type === "end") this.ended = message.why || "the session has ended";
  }

  greet(hello, now_ms) {
    this.hello = hello;
    this.openedAt_ms = now_ms;
    this.notice = hello.notice ?? null;
    this.ended = null;
    this.reading = this.readingAt_ms = this.status = null; // from another connection, maybe another session
    this.events = [];
    for (const event of hello.events ?? []) this.takeEvent(event);
    this.history.restart(hello.history ?? [], hello.hop_s);
  }

  takeReading(reading, now_ms) {
    this.reading = reading;
    this.readingAt_ms = now_ms;
    this.ended = null;
    this.history.add(pointOf(reading));
  }

  takeStatus(status) {
    this.status = status;
    if ("notice" in status) this.notice = status.notice;
  }

  takeEvent(event) {
    if (this.events.some((known) => known.number === event.number)) return;
    this.events.push(event);
    if (this.events.length > KEPT_EVENTS) this.events.shift();
  }

  get labels() {
    return this.hello?.labels ?? [];
  }

  get isConnected() {
    return this.link.state === "open";
  }

  get needsNotice() {
    return this.notice !== null && !this.notice.acknowledged;
  }

  get hasSignal() {
    return this.reading !== null && this.reading.subset !== null;
  }

  get contradictsAt() {
    return this.hello?.contradicts_at ?? CLEAR_CONTRADICTION;
  }

  // Seconds since anything, and since a reading, was heard; null where nothing ever was.
  silence_s(now_ms) {
    return this.messageAt_ms === null ? null : (now_ms - this.messageAt_ms) / 1000;
  }

  readingAge_s(now_ms) {
    return this.readingAt_ms === null ? null : (now_ms - this.readingAt_ms) / 1000;
  }

  // Whether nothing is heard any more, so that nothing shown can be trusted to be so now.
  isDeaf(now_ms) {
    if (this.ended !== null) return true;
    return this.messageAt_ms === null || now_ms - this.messageAt_ms > STALE_MS;
  }

  // Whether the reading is too old to be shown as what is now.
  isOld(now_ms) {
    if (this.readingAt_ms === null) return true;
    const limit_ms = Math.max(STALE_MS, 3000 * (this.hello?.hop_s ?? 0));
    return this.isDeaf(now_ms) || now_ms - this.readingAt_ms > limit_ms;
  }

  // The session's own time now, from the newest reading on; null before anything is known of it.
  sessionTime_s(now_ms) {
    if (this.reading !== null) return this.reading.time_s + (now_ms - this.readingAt_ms) / 1000;
    const begun_s = this.hello?.time_s ?? this.history.points.at(-1)?.time_s ?? null;
    return begun_s === null ? null : begun_s + (now_ms - this.openedAt_ms) / 1000;
  }

  // How a modality is, in one of the six words: as judged at the last hop; its sensor
  // is asked only where there is no reading yet.
  stateOf(modality) {
    const judged = this.reading?.states?.[modality] ?? null;
    const sensor = this.status?.sensors?.[modality] ?? null;
    const isMuted = this.status?.muted?.includes(modality) ?? false;
    if (isMuted !== (judged?.state === "muted")) {
      if (isMuted) return { state: "muted", why: "the device is closed", since_s: null };
      return { state: "muted", why: "its device is being closed or opened", since_s: judged.since_s };
    }
    if (judged === null && sensor && sensor.state !== "running") {
      return { state: sensor.state, why: sensor.why, since_s: null };
    }
    return judged;
  }
}
