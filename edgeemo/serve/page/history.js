// The last five minutes of readings, bounded in time and in number.

export const KEPT_S = 300;
const KEPT = 1500; // at faster hops the oldest go sooner than after five minutes

export class History {
  constructor() {
    this.points = [];
    this.hop_s = 0.5;
  }

  restart(points, hop_s) {
    this.points = [];
    this.hop_s = hop_s > 0 ? hop_s : 0.5;
    for (const point of points) this.add(point);
  }

  add(point) {
    const last = this.points.at(-1);
    if (last && point.time_s < last.time_s) this.points = []; // the session began again
    if (last && point.time_s === last.time_s) this.points.pop();
    this.points.push(point);
    const oldest_s = point.time_s - KEPT_S;
    let gone = Math.max(0, this.points.length - KEPT);
    while (this.points[gone].time_s < oldest_s) gone += 1;
    if (gone) this.points.splice(0, gone);
  }

  // Stretches over which pick(point) stays the same: [{value, from_s, to_s}]; null makes none. A reading
  // holds until the next one, but never longer than two hops and a half: what is missing stays empty.
  runs(pick) {
    const runs = [];
    let open = null;
    this.points.forEach((point, index) => {
      const next_s = this.points[index + 1]?.time_s ?? point.time_s + this.hop_s;
      const to_s = next_s - point.time_s > 2.5 * this.hop_s ? point.time_s + this.hop_s : next_s;
      const value = pick(point);
      if (open && open.value === value && Math.abs(open.to_s - point.time_s) < 1e-6) {
        open.to_s = to_s;
        return;
      }
      open = value === null ? null : { value, from_s: point.time_s, to_s };
      if (open) runs.push(open);
    });
    return runs;
  }

  // Times at which another set of sensors began to serve.
  swaps() {
    const times_s = [];
    for (let index = 1; index < this.points.length; index += 1) {
      const [before, after] = [this.points[index - 1], this.points[index]];
      if (before.subset !== after.subset) times_s.push(after.time_s);
    }
    return times_s;
  }
}

export function pointOf(reading) {
  const { time_s, label, emotion, mood, confidence, valence, arousal, subset, engine } = reading;
  return { time_s, label, emotion, mood, confidence, valence, arousal, subset, engine };
}
