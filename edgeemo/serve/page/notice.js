// What people must be told before they are sensed, with the buttons that let sensing begin and end.

import { byId, setAttribute, setHidden, setText } from "./elements.js";
import { put, remove } from "./requests.js";
import { sentence } from "./words.js";

const VISITOR = "visitor at the page";

export class NoticeView {
  constructor({ onChange }) {
    this.card = byId("notice");
    this.text = byId("notice-text");
    this.state = byId("notice-state");
    this.button = byId("notice-button");
    this.problem = byId("notice-problem");
    this.onChange = onChange;
    this.wanted = null; // what was asked for and is not so yet
    this.button.addEventListener("click", () => this.toggle());
  }

  show(knowledge) {
    const { notice } = knowledge;
    setHidden(this.card, !notice);
    if (!notice) return;
    this.isAcknowledged = notice.acknowledged;
    if (this.wanted === this.isAcknowledged) this.wanted = null;
    setAttribute(this.card, "data-open", notice.acknowledged ? null : "");
    setText(this.text, notice.text);
    setText(this.state, notice.acknowledged ? `Acknowledged by ${notice.by}.` : "No sensor opens before this is acknowledged.");
    const isPending = this.wanted !== null;
    setText(this.button, isPending ? "One moment…" : notice.acknowledged ? "Withdraw" : "Understood, start sensing");
    setAttribute(this.button, "class", notice.acknowledged ? null : "strong");
    setAttribute(this.button, "aria-disabled", isPending || !knowledge.isConnected ? "true" : null);
  }

  async toggle() {
    if (this.button.getAttribute("aria-disabled") === "true") return;
    this.wanted = !this.isAcknowledged;
    setText(this.problem, "");
    this.onChange();
    try {
      await (this.wanted ? put("/v1/notice", { by: VISITOR }) : remove("/v1/notice"));
    } catch (problem) {
      this.wanted = null;
      setText(this.problem, sentence(`Nothing was changed: ${problem.message}`));
    }
    this.onChange();
  }
}
