// The plane of valence and arousal with a trace of the last minute that fades.

import { byId, setAttribute, setHidden, setText, svgElement } from "./elements.js";
import { signed } from "./words.js";

const TRACE_S = 60;
const PIECES = 120;

export class AffectView {
  constructor() {
    this.figures = byId("affect-figures");
    this.landmarks = svgElement("g", { class: "landmarks", "aria-hidden": "true" });
    this.trace = svgElement("g", { class: "trace", "aria-hidden": "true" });
    this.halo = svgElement("circle", { class: "halo", r: 0.13 });
    this.dot = svgElement("circle", { class: "dot", r: 0.06 });
    this.picture = svgElement(
      "svg",
      { viewBox: "-1.16 -1.16 2.32 2.32", role: "img", "aria-labelledby": "affect-figures" },
      svgElement("rect", { class: "frame", x: -1, y: -1, width: 2, height: 2, rx: 0.1 }),
      svgElement("circle", { class: "ring", r: 0.5 }),
      svgElement("path", { class: "axis", d: "M-1 0H1M0 -1V1" }),
      axisName("excited", 0, -1.05),
      axisName("calm", 0, 1.13),
      axisName("unpleasant", -1.05, 0, -90),
      axisName("pleasant", 1.05, 0, 90),
      this.landmarks,
      this.trace,
      this.halo,
      this.dot,
    );
    byId("plane").append(this.picture);
    this.newest_s = null;
    this.fades = null;
    this.made = null;
  }

  show(knowledge, now_ms) {
    this.mark(knowledge.hello?.coordinates ?? null);
    const shown = knowledge.hasSignal && !knowledge.isOld(now_ms) ? knowledge.reading : null;
    const isPlaced = shown !== null && shown.valence !== null && shown.arousal !== null;
    for (const circle of [this.halo, this.dot]) {
      setHidden(circle, !isPlaced);
      if (!isPlaced) continue;
      setAttribute(circle, "cx", shown.valence);
      setAttribute(circle, "cy", -shown.arousal);
    }
    setText(this.figures, isPlaced ? figuresOf(shown) : "no signal, so no place in the plane");
    this.drawTrace(knowledge.history.points, knowledge.sessionTime_s(now_ms));
  }

  drawTrace(points, now_s) {
    const newest_s = points.at(-1)?.time_s ?? null;
    const fades = now_s === null ? 0 : Math.floor(now_s); // an old trace fades although nothing comes
    if (this.newest_s === newest_s && this.fades === fades) return;
    [this.newest_s, this.fades] = [newest_s, fades];
    const pieces = [];
    for (let index = points.length - 1; index > 0 && pieces.length < PIECES; index -= 1) {
      const [from, to] = [points[index - 1], points[index]];
      const age_s = now_s - to.time_s;
      if (age_s > TRACE_S) break;
      if (from.valence === null || to.valence === null) continue;
      pieces.push(
        svgElement("line", {
          x1: from.valence,
          y1: -from.arousal,
          x2: to.valence,
          y2: -to.arousal,
          opacity: (0.75 * (1 - age_s / TRACE_S) ** 1.5).toFixed(3),
        }),
      );
    }
    this.trace.replaceChildren(...pieces.reverse());
  }

  mark(coordinates) {
    if (this.made === coordinates) return;
    this.made = coordinates;
    const places = Object.entries(coordinates ?? {});
    this.landmarks.replaceChildren(
      ...places.flatMap(([label, [valence, arousal]]) => {
        const name = svgElement("text", { x: valence, y: -arousal - 0.06, class: sideOf(label, places) }, label);
        return [svgElement("circle", { cx: valence, cy: -arousal, r: 0.022 }), name];
      }),
    );
  }
}

// Names of neighbours lean away from each other.
function sideOf(label, places) {
  const [, [x, y]] = places.find(([name]) => name === label);
  const beside = places.find(([name, [u, v]]) => name !== label && Math.abs(u - x) < 0.3 && Math.abs(v - y) < 0.1);
  return beside ? (beside[1][0] > x ? "leans-left" : "leans-right") : "";
}

function figuresOf({ valence, arousal }) {
  return `valence ${signed(valence)}, arousal ${signed(arousal)}`;
}

function axisName(words, x, y, turn = 0) {
  const place = turn ? { transform: `translate(${x} ${y}) rotate(${turn})` } : { x, y };
  return svgElement("text", { class: "axis-name", ...place }, words);
}
