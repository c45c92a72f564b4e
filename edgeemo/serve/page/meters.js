// What a sensor's meter shows: a share of its scale and the figure in words.

const QUIETEST_DBFS = -70;

export function meterOf(modality, values) {
  if (!values) return null;
  if (typeof values.level_dbfs === "number") {
    const share = Math.max(0, 1 - values.level_dbfs / QUIETEST_DBFS);
    const isBelow = values.level_dbfs <= QUIETEST_DBFS;
    return { share, words: `${isBelow ? "below −70" : String(Math.round(values.level_dbfs)).replace("-", "−")} dBFS` };
  }
  if (typeof values.brightness === "number") {
    const fps = typeof values.fps === "number" ? ` · ${values.fps.toFixed(1)} fps` : "";
    return { share: values.brightness, words: `${Math.round(100 * values.brightness)} % bright${fps}` };
  }
  if (typeof values.words === "number") {
    return { share: Math.min(1, values.words / 30), words: `${values.words} ${values.words === 1 ? "word" : "words"}` };
  }
  return null;
}
