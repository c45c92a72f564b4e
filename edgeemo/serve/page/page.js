// Joins what is known to what is shown: messages change the knowledge, one drawing shows all of it.

import { AffectView } from "./affect.js";
import { Announcer } from "./announcer.js";
import { BarsView } from "./bars.js";
import { Connection } from "./connection.js";
import { EventsView } from "./events.js";
import { FactsView } from "./facts.js";
import { LinkView } from "./link.js";
import { NoticeView } from "./notice.js";
import { PreviewView } from "./preview.js";
import { ReadingView } from "./reading.js";
import { SensorsView } from "./sensors.js";
import { Knowledge } from "./state.js";
import { TimelineView } from "./timeline.js";

const TICK_MS = 250; // ages grow, and what is old must look old, although no message comes

const knowledge = new Knowledge();
const connection = new Connection({
  path: "/v1/live",
  onMessage: (message) => {
    knowledge.take(message, performance.now());
    draw();
  },
  onChange: (link) => {
    knowledge.link = link;
    draw();
  },
});
const views = [
  new LinkView({ onRetry: () => connection.retry() }),
  new NoticeView({ onChange: draw }),
  new ReadingView(),
  new BarsView(),
  new AffectView(),
  new PreviewView({ onChange: draw }),
  new SensorsView({ onChange: draw }),
  new TimelineView(),
  new FactsView(),
  new EventsView({ onChange: draw }),
  new Announcer(),
];

let isAsked = false;

// Draws at most once a frame, and not at all while nobody looks.
function draw() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    const now_ms = performance.now();
    for (const view of views) view.show(knowledge, now_ms);
  });
}

setInterval(draw, TICK_MS);
addEventListener("online", () => connection.retry());
document.addEventListener("visibilitychange", () => document.hidden || connection.retry());
connection.open();
