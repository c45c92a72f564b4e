// The camera's picture, where the server allows it; never the last frame of a camera that gives none.

import { byId, setAttribute, setHidden, setText } from "./elements.js";

const GIVES_FRAMES = ["live", "quiet", "poor"];
const RETRY_MS = 2000;

export class PreviewView {
  constructor({ onChange }) {
    this.card = byId("preview");
    this.image = byId("preview-image");
    this.why = byId("preview-why");
    this.button = byId("preview-button");
    this.isWanted = true;
    this.failedAt_ms = -Infinity;
    this.button.addEventListener("click", () => {
      this.isWanted = !this.isWanted;
      this.failedAt_ms = -Infinity;
      onChange();
    });
    this.image.addEventListener("error", () => {
      if (this.image.hasAttribute("src")) this.failedAt_ms = performance.now();
    });
  }

  show(knowledge, now_ms) {
    setHidden(this.card, !knowledge.hello?.preview);
    const why = this.whyNot(knowledge, now_ms);
    if (why === "" && !this.image.hasAttribute("src")) {
      this.image.setAttribute("src", `/v1/preview?page=${Math.round(now_ms)}`); // a new stream, not the old one's end
    } else if (why !== "") {
      setAttribute(this.image, "src", null); // hangs up, so that the server encodes nothing for us
    }
    setHidden(this.image, why !== "");
    setText(this.why, why);
    setHidden(this.why, why === "");
    setText(this.button, this.isWanted ? "Hide preview" : "Show preview");
    setAttribute(this.button, "aria-expanded", String(this.isWanted));
  }

  whyNot(knowledge, now_ms) {
    if (!knowledge.hello?.preview) return "not offered";
    if (!this.isWanted) return "hidden";
    if (knowledge.isDeaf(now_ms)) return "no news from the server";
    if (knowledge.needsNotice) return "off until the notice is acknowledged";
    if (now_ms - this.failedAt_ms < RETRY_MS) return "the picture cannot be shown; trying again";
    const state = knowledge.stateOf("video")?.state ?? "absent";
    return GIVES_FRAMES.includes(state) ? "" : `the camera is ${state}`;
  }
}
