// The upload page: drop, paste or choose photos; each goes in a request of its own, two at a time, with its
// progress in its frame.

import { count, megabytes, photoCount, photos, refuse, setState, settle } from "./photos.js";

const AT_ONCE = 2;
const drop = document.getElementById("drop");
const files = document.getElementById("files");
const choice = document.getElementById("choice");
const status = document.getElementById("status");
const strip = document.getElementById("strip");
const uploads = [];
let paused = false;
let offline = false;

function addFrame(file) {
  const frame = document.getElementById("new-frame").content.firstElementChild.cloneNode(true);
  frame.querySelector("label").textContent = file.name;
  const preview = frame.querySelector(".picture");
  preview.src = URL.createObjectURL(file);
  preview.onload = () => URL.revokeObjectURL(preview.src);
  preview.onerror = () => URL.revokeObjectURL(preview.src);
  preview.hidden = false;
  return frame;
}

// The queue. The state of an upload is waiting, sending, ready (it is in) or refused.

function add(list) {
  const most = Number(drop.dataset.most);
  const chosen = [...list].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  const fresh = chosen.slice(0, most).map((file) => ({ file, frame: addFrame(file), state: "waiting", sent: 0 }));
  photos.prepend(...fresh.map((upload) => upload.frame));
  uploads.push(...fresh);
  choice.classList.remove("without-photos");
  document.body.classList.add("working");
  document.getElementById("work-actions").hidden = false;
  if (chosen.length > most) status.dataset.more = `${photoCount(chosen.length - most)} left out: ${most} at a time.`;
  fresh.forEach(showWaiting);
  advance();
}

function forget(upload) {
  upload.request?.abort();
  upload.frame.remove();
  uploads.splice(uploads.indexOf(upload), 1);
  advance();
}

function showWaiting(upload) {
  upload.state = "waiting";
  setState(upload.frame, {
    glyph: paused || offline ? "paused" : "waiting",
    tone: "quiet",
    word: "Waiting",
    fact: megabytes(upload.file.size),
    action: { label: "Remove", run: () => forget(upload) },
  });
}

function send(upload) {
  const { file, frame } = upload;
  const line = frame.querySelector(".progress rect");
  const request = new XMLHttpRequest();
  const body = new FormData();
  body.append("images", file);
  Object.assign(upload, { state: "sending", request, sent: 0 });
  const show = () => {
    const percent = file.size ? Math.min(100, Math.round((upload.sent / file.size) * 100)) : 0;
    const fact = `${percent} % of ${megabytes(file.size)}`;
    line.setAttribute("width", percent);
    setState(frame, { glyph: "making", tone: "accent", word: "Uploading", fact, action: { label: "Stop", run: () => forget(upload) } });
  };
  request.upload.onprogress = (event) => {
    upload.sent = event.loaded;
    show();
    tell();
  };
  request.onload = () => finish(upload);
  // The connection, not the photo, is at fault: it waits and is sent again.
  request.onerror = () => {
    offline = true;
    showWaiting(upload);
    tell();
    setTimeout(goOn, 3000);
  };
  request.open("POST", drop.action);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  show();
  request.send(body);
}

function finish(upload) {
  const { request, frame, file } = upload;
  const answer = request.response;
  frame.querySelector(".progress").remove();
  if (request.status === 401) {
    location.reload();
    return;
  }
  const image = answer?.images?.[0];
  if (image) {
    upload.state = "ready";
    accept(frame, image);
  } else {
    upload.state = "refused";
    refuse(frame, answer?.errors?.[0]?.message ?? "Not taken. The server could not store this photo; add it again in a minute.");
    setState(frame, { glyph: "refused", tone: "red", word: "Not accepted", action: { label: "Remove", run: () => forget(upload) } });
    frame.querySelector("label").replaceWith(file.name);
  }
  advance();
}

function accept(frame, image) {
  // The same photo may already lie on the page; one frame of it is enough.
  document.getElementById(`image-${image.id}`)?.remove();
  frame.id = `image-${image.id}`;
  frame.dataset.url = image.url;
  const pick = document.createElement("input");
  Object.assign(pick, { type: "checkbox", className: "pick", name: "image", value: image.id, id: `pick-${image.id}`, checked: true });
  frame.querySelector(".mat").after(pick);
  frame.querySelector("label").htmlFor = pick.id;
  const remove = frame.querySelector(".state-action button");
  Object.assign(remove, { type: "submit", textContent: "Remove", hidden: false, onclick: null });
  remove.setAttribute("form", "removal");
  remove.setAttribute("formaction", `${image.url}/delete`);
  settle(frame, image);
  count();
}

function advance() {
  const waiting = uploads.filter((upload) => upload.state === "waiting");
  let free = AT_ONCE - uploads.filter((upload) => upload.state === "sending").length;
  while (!paused && !offline && free-- > 0 && waiting.length) send(waiting.shift());
  tell();
  count();
}

function goOn() {
  offline = false;
  advance();
}

// The status line and the strip

const CELLS = { waiting: "waiting", sending: "making", ready: "done", refused: "failed" };
const started = { at: 0, bytes: 0 };

function timeLeft() {
  const open = uploads.filter((upload) => upload.state === "waiting" || upload.state === "sending");
  const left = open.reduce((sum, upload) => sum + upload.file.size - upload.sent, 0);
  const done = uploads.reduce((sum, upload) => sum + (open.includes(upload) ? upload.sent : upload.file.size), 0);
  if (!open.length) started.at = 0;
  else if (!started.at) Object.assign(started, { at: performance.now(), bytes: done });
  const seconds = (performance.now() - started.at) / 1000;
  if (!started.at || seconds < 2 || done <= started.bytes) return "";
  const rest = (left * seconds) / (done - started.bytes);
  return rest < 90 ? ` About ${Math.max(5, Math.ceil(rest / 5) * 5)} s left.` : ` About ${Math.round(rest / 60)} min left.`;
}

function tell() {
  const n = (state) => uploads.filter((upload) => upload.state === state).length;
  const parts = [[n("ready"), "added"], [n("sending"), "uploading"], [n("waiting"), "waiting"], [n("refused"), "not accepted"]];
  const words = parts.filter(([count]) => count).map(([count, word]) => `${count} ${word}`);
  let sentence = uploads.length ? `${photoCount(uploads.length)}: ${words.join(", ")}.${paused ? " Paused." : timeLeft()}` : "";
  if (offline) sentence = `Connection lost. ${photoCount(n("waiting"))} ${n("waiting") === 1 ? "waits and goes" : "wait and go"} on by themselves.`;
  sentence = [sentence, status.dataset.more].filter(Boolean).join(" ");
  if (status.textContent !== sentence) status.textContent = sentence;
  strip.hidden = !uploads.length;
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", sentence);
  strip.replaceChildren(...uploads.map((upload) => {
    const cell = document.createElement("i");
    cell.className = `cell cell-${CELLS[upload.state]}`;
    return cell;
  }));
  document.getElementById("pause").hidden = !(n("waiting") + n("sending"));
}

// Drop (files and whole folders), paste, choose

async function readEntry(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => { entry.file(resolve, reject); })];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return found;
    for (const child of some) if (!child.name.startsWith(".")) found.push(...await readEntry(child));
  }
}

async function addDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return add(transfer.files);
  return add((await Promise.all(entries.map(readEntry))).flat());
}

drop.classList.add("enhanced");
document.getElementById("choose").hidden = false;
for (const id of ["choose", "add"]) document.getElementById(id).addEventListener("click", () => files.click());
files.addEventListener("change", () => { add(files.files); files.value = ""; });
document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); addDropped(event.dataTransfer); });
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) add(event.clipboardData.files); });
document.getElementById("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.textContent = paused ? "Go on" : "Pause";
  uploads.filter((upload) => upload.state === "waiting").forEach(showWaiting);
  advance();
});
window.addEventListener("online", goOn);
window.addEventListener("beforeunload", (event) => { if (uploads.some((upload) => upload.state === "sending" || upload.state === "waiting")) event.preventDefault(); });
