// All uploads in one sentence, one bar, and a strip with a cell for each.

import { inState, line, uploads } from "./line.js";
import { photoCount } from "./photos.js";

const CELLS = { waiting: "waiting", sending: "sent", preparing: "preparing", ready: "done", refused: "failed", failed: "failed" };
const PARTS = [["ready", ["ready"]], ["preparing", ["preparing"]], ["uploading", ["sending"]], ["waiting", ["waiting"]], ["not accepted", ["refused", "failed"]]];
const QUIET = 5000;

const status = document.getElementById("status");
const spoken = document.getElementById("spoken");
const strip = document.getElementById("strip");
const bar = document.getElementById("whole");
const began = { at: 0, bytes: 0 };
let asked = 0;
let silent = 0;

export const note = { leftOut: 0 };

export function tell() {
  asked ||= requestAnimationFrame(() => { asked = 0; show(); });
}

function bytes() {
  const counted = uploads.filter((upload) => !["refused", "failed"].includes(upload.state));
  const open = inState("waiting", "sending");
  const whole = counted.reduce((sum, { file }) => sum + file.size, 0);
  return { whole, left: open.reduce((sum, { file, sent }) => sum + file.size - Math.min(file.size, sent), 0), open: open.length };
}

function timeLeft({ whole, left, open }) {
  const done = whole - left;
  if (!open || line.paused || line.trouble) began.at = 0;
  else if (!began.at || done < began.bytes) Object.assign(began, { at: performance.now(), bytes: done });
  const seconds = (performance.now() - began.at) / 1000;
  if (!began.at || seconds < 2 || done <= began.bytes) return "";
  const rest = (left * seconds) / (done - began.bytes);
  return rest < 90 ? ` About ${Math.max(5, Math.ceil(rest / 5) * 5)} s left.` : ` About ${Math.round(rest / 60)} min left.`;
}

function sentence() {
  const waits = inState("waiting", "sending").length;
  if (line.trouble && waits) return `${line.trouble} ${photoCount(waits)} ${waits === 1 ? "waits and goes" : "wait and go"} on by themselves.`;
  const parts = PARTS.map(([word, states]) => [inState(...states).length, word]).filter(([n]) => n);
  const all = uploads.length ? `${photoCount(uploads.length)}: ${parts.map((part) => part.join(" ")).join(", ")}.` : "";
  const others = note.leftOut ? `${note.leftOut} other ${note.leftOut === 1 ? "file" : "files"} in the folder left out.` : "";
  return [all, line.paused && waits ? "Paused." : "", others].filter(Boolean).join(" ");
}

function show() {
  const sums = bytes();
  const words = sentence();
  const full = words + timeLeft(sums);
  if (status.textContent !== full) status.textContent = full;
  speak(words, sums.open);
  bar.hidden = strip.hidden = !uploads.length;
  bar.value = sums.whole ? Math.round(((sums.whole - sums.left) / sums.whole) * 100) : 0;
  strip.setAttribute("aria-label", words);
  strip.classList.toggle("strip-many", uploads.length > 40);
  while (strip.childElementCount > uploads.length) strip.lastElementChild.remove();
  while (strip.childElementCount < uploads.length) strip.append(document.createElement("i"));
  uploads.forEach(({ state, sent, file }, place) => {
    const cell = strip.children[place];
    cell.className = `cell cell-${CELLS[state]}`;
    cell.style.setProperty("--sent", file.size ? Math.min(1, sent / file.size) : 0);
  });
  document.getElementById("pause").hidden = !sums.open;
}

// To those who listen: not each step, but where it stands now and then, and how it ended.

function speak(words, open) {
  clearTimeout(silent);
  const say = () => { if (spoken.textContent !== words) spoken.textContent = words; };
  if (open && !line.trouble) silent = setTimeout(say, QUIET);
  else say();
}
