// Photos that the server still decodes: one question for all of them, while somebody looks.

import { photos, settle } from "./photos.js";

const SOONEST = 1500;
const LATEST = 10000;
const AT_ONCE = 60;
let wait = SOONEST;
let timer = 0;

export function watch() {
  wait = SOONEST;
  if (timer) clearTimeout(timer);
  timer = 0;
  schedule();
}

function schedule() {
  if (!timer && !document.hidden && photos.querySelector("[data-preparing]")) timer = setTimeout(ask, wait);
}

async function ask() {
  const frames = [...photos.querySelectorAll("[data-preparing]")].slice(0, AT_ONCE);
  const query = new URLSearchParams(frames.map((frame) => ["image", frame.id.replace("image-", "")]));
  const address = `${document.getElementById("drop").action}?${query}`;
  const answer = await fetch(address, { headers: { Accept: "application/json" } }).catch(() => null);
  const images = answer?.ok ? (await answer.json().catch(() => ({}))).images ?? [] : [];
  const settled = images.filter((image) => image.status !== "preparing");
  for (const image of settled) {
    const frame = document.getElementById(`image-${image.id}`);
    if (frame) settle(frame, image);
  }
  wait = settled.length ? SOONEST : Math.min(LATEST, wait * 1.4);
  timer = 0;
  schedule();
}

document.addEventListener("visibilitychange", schedule);
