// What is seen right now, in large words; never an old one as if it were new.

import { byId, setAttribute, setHidden, setShare, setText } from "./elements.js";
import { tintOf } from "./tints.js";
import { capital, duration, modalityWords, percent, seconds, sensesOf, sentence } from "./words.js";

export class ReadingView {
  constructor() {
    this.card = byId("reading");
    this.word = byId("emotion");
    this.sign = this.card.querySelector(".emotion svg");
    this.fill = byId("certainty-fill");
    this.certainty = byId("certainty");
    this.mood = byId("mood");
    this.moodNote = byId("mood-note");
    this.basis = byId("basis");
    this.contradiction = byId("contradiction");
  }

  show(knowledge, now_ms) {
    const { reading } = knowledge;
    const isOld = knowledge.isOld(now_ms);
    const shown = isOld || !knowledge.hasSignal ? null : reading;
    const emotion = shown?.emotion ?? shown?.label ?? null;
    setAttribute(this.card, "data-tint", emotion && tintOf(emotion, knowledge.labels));
    setAttribute(this.card, "data-empty", shown ? null : "");
    setHidden(this.sign, shown !== null);
    setAttribute(this.sign.firstElementChild, "href", signOf(knowledge, isOld));
    setText(this.word, emotion ?? (isOld ? emptyWord(knowledge) : "no signal"));
    const share = shown ? (shown.probabilities[emotion] ?? shown.confidence) : 0;
    setShare(this.fill, share);
    setText(this.certainty, shown ? percent(share) : "–");
    setText(this.mood, shown?.mood ?? "–");
    setText(this.moodNote, shown && !shown.mood ? "too little seen yet" : "");
    setText(this.basis, basisOf(knowledge, shown, now_ms));
    this.showContradiction(knowledge, shown);
  }

  showContradiction(knowledge, shown) {
    const value = shown?.contradiction ?? null;
    const isClear = value !== null && value >= knowledge.contradictsAt;
    setHidden(this.contradiction, value === null);
    setAttribute(this.contradiction, "data-clear", isClear ? "" : null);
    if (value === null) return;
    const words = isClear ? "The senses contradict each other" : "Contradiction between the senses";
    setText(this.contradiction, `${words}: ${percent(value)}`);
  }
}

function signOf(knowledge, isOld) {
  if (knowledge.needsNotice) return "#sign-muted";
  return isOld ? "#sign-unknown" : "#sign-quiet";
}

function emptyWord(knowledge) {
  if (knowledge.needsNotice) return "sensing is off";
  if (knowledge.ended !== null) return "ended";
  return knowledge.reading === null ? "waiting" : "no news";
}

function basisOf(knowledge, shown, now_ms) {
  if (shown) return `from ${sensesOf(shown.subset)}, ${seconds(shown.age_s ?? 0)} old`;
  const { reading } = knowledge;
  if (knowledge.needsNotice) return "until the notice is acknowledged";
  if (reading === null) return knowledge.ended === null ? "for the first reading" : sentence(knowledge.ended);
  const age_s = knowledge.readingAge_s(now_ms);
  if (knowledge.isOld(now_ms)) return `the last reading, ${duration(age_s)} ago, said ${reading.emotion ?? reading.label}`;
  const reasons = Object.entries(reading.states)
    .filter(([, status]) => status.why)
    .map(([modality, status]) => `${modalityWords(modality).device}: ${status.why}`);
  return reasons.length ? capital(reasons.join(" · ")) : "no sensor gives anything usable";
}
