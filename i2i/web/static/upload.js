// The upload page: brings together the ways in (intake.js), the line (line.js), what is said of it
// (tally.js), previews, what the server still prepares, and the choice for a batch.

import "./choice.js";
import { listen } from "./intake.js";
import { advance, end, enqueue, goOn, inState, line, lose, setPaused, uploads } from "./line.js";
import { newFrame, photos } from "./photos.js";
import { watch } from "./preparing.js";
import { preview } from "./previews.js";
import { note, tell } from "./tally.js";

const form = document.getElementById("drop");
// As the server orders them: IMG_2 before IMG_10, the ending apart.
const numeric = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const stem = ({ name }) => name.replace(/\.[^.]*$/, "");
const byName = (a, b) => numeric.compare(stem(a), stem(b));

function take(files, leftOut) {
  note.leftOut = leftOut;
  const fresh = files.sort(byName).map((file) => ({ file, frame: newFrame(file.name) }));
  photos.prepend(...fresh.map(({ frame }) => frame));
  for (const { file, frame } of fresh) {
    const upload = enqueue(file, frame);
    if (file.size > Number(form.dataset.maxBytes)) end(upload, form.dataset.tooLarge);
    else preview(file, frame.querySelector("canvas"));
  }
  if (fresh.length) {
    document.getElementById("choice").classList.remove("without-photos");
    document.body.classList.add("working");
    document.getElementById("work-actions").hidden = false;
  }
  advance();
}

// Removing goes on in place: a new page would end what is still being sent.

async function remove(button) {
  const frame = button.closest(".frame");
  const answer = await fetch(button.formAction, { method: "POST", headers: { Accept: "application/json" } }).catch(() => null);
  if (!answer?.ok) return;
  const place = uploads.findIndex((upload) => upload.frame === frame);
  if (place >= 0) uploads.splice(place, 1);
  const next = frame.nextElementSibling ?? frame.previousElementSibling;
  const focused = frame.contains(document.activeElement);
  frame.remove();
  if (focused) next?.querySelector(".state-action button").focus();
  photos.dispatchEvent(new Event("change"));
  tell();
}

line.changed = tell;
listen(take);
form.classList.add("enhanced");
document.getElementById("choose").hidden = false;
document.getElementById("pause").addEventListener("click", (event) => {
  setPaused(!line.paused);
  event.target.textContent = line.paused ? "Go on" : "Pause";
});
photos.addEventListener("click", (event) => {
  const button = event.target.closest("button[form=removal]");
  if (!button) return;
  event.preventDefault();
  remove(button);
});
photos.addEventListener("settled", ({ target, detail }) => {
  const upload = uploads.find(({ frame }) => frame === target);
  if (upload) upload.state = detail.status === "rejected" ? "refused" : detail.status;
  if (detail.status === "preparing") watch();
  tell();
});
window.addEventListener("offline", lose);
window.addEventListener("online", goOn);
window.addEventListener("beforeunload", (event) => { if (inState("sending", "waiting").length) event.preventDefault(); });
watch();
