// Which photos a batch shall be made of: one by one, ranges with Shift, all that are ready, none.

import { photoCount, photos } from "./photos.js";

const start = document.getElementById("start");
let anchor = null;

export function count() {
  const n = start.form.querySelectorAll(".pick:checked, #elsewhere input").length;
  document.getElementById("chosen").textContent = n ? `${n} selected` : "Choose the photos to work on.";
  start.textContent = n ? `New batch with ${photoCount(n)}` : "New batch";
  start.disabled = !n;
}

function tick(picks, checked) {
  for (const pick of picks) pick.checked = checked;
  count();
}

// Shift with a click or with the space bar takes everything from the one touched before.

function extend(pick) {
  const picks = [...photos.querySelectorAll(".pick")];
  const [from, to] = [picks.indexOf(anchor), picks.indexOf(pick)].sort((a, b) => a - b);
  if (from >= 0) tick(picks.slice(from, to + 1), pick.checked);
}

photos.addEventListener("click", (event) => {
  if (!event.target.matches(".pick")) return;
  if (event.shiftKey) extend(event.target);
  anchor = event.target;
});
photos.addEventListener("mousedown", (event) => {
  if (event.shiftKey && event.target.closest(".frame")) event.preventDefault(); // else words are selected, too
});
for (const type of ["change", "settled"]) photos.addEventListener(type, count);
document.getElementById("all").addEventListener("click", (event) => {
  event.preventDefault();
  tick(photos.querySelectorAll("[data-ready] .pick"), true);
});
document.getElementById("none").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("elsewhere")?.remove();
  tick(photos.querySelectorAll(".pick"), false);
});
count();
