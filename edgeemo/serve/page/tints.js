// Which colour of the style sheet belongs to a label: its own where it has one, else the next free one.

const OWN = ["neutral", "happy", "sad", "angry", "fear", "disgust", "surprise"];
const SPARE = 4;

export function tintOf(label, labels) {
  if (OWN.includes(label)) return label;
  const others = labels.filter((name) => !OWN.includes(name));
  return `spare-${Math.max(0, others.indexOf(label)) % SPARE}`;
}
