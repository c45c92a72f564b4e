// How numbers, times and names are said.

const MODALITIES = {
  audio: { device: "Microphone", sense: "voice", icon: "icon-audio" },
  video: { device: "Camera", sense: "face", icon: "icon-video" },
  text: { device: "Words", sense: "words", icon: "icon-text" },
};

export function modalityWords(name) {
  return MODALITIES[name] ?? { device: capital(name), sense: name, icon: "icon-other" };
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// "voice, face and words" for "audio+video+text"
export function sensesOf(subset) {
  return listed(subset.split("+").map((name) => modalityWords(name).sense));
}

export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

// Never 100 % or 0 % for what is only nearly so.
export function percent(share) {
  if (share > 0 && share < 0.005) return "<1\u00a0%";
  if (share < 1 && share >= 0.995) return ">99\u00a0%";
  return `${Math.round(100 * share)}\u00a0%`;
}

export function seconds(value) {
  if (value < 10) return `${Math.max(0, value).toFixed(1)} s`;
  return duration(value);
}

export function duration(value_s) {
  const whole = Math.max(0, Math.floor(value_s));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

export function clockTime(epoch_ms) {
  return new Date(epoch_ms).toLocaleTimeString("en-GB");
}

export function sentence(text) {
  const trimmed = text.trim();
  if (!trimmed) return "";
  const begun = capital(trimmed);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
