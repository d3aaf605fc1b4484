// The line of uploads: each photo in a request of its own, three at a time. What is not the photo's fault waits and
// is sent again, later each time; the server knows a photo by its bytes, so that twice sent is once stored.

import { forgive, megabytes, refuse, setState, store } from "./photos.js";

const AT_ONCE = 3;
const SILENCE = 60000;
const LONGEST_PAUSE = 30000;
const MOST_FAULTS = 4;

// The state of each is waiting, sending, preparing, ready, refused (for good) or failed (may be tried again).
export const uploads = [];

// `trouble` is why nothing is sent just now; `changed` is called after each change.
export const line = { paused: false, trouble: "", changed: () => {} };

const address = document.getElementById("drop").action;
let pauses = 0;
let timer = 0;

export const inState = (...states) => uploads.filter((upload) => states.includes(upload.state));

export function enqueue(file, frame) {
  const upload = { file, frame, state: "waiting", sent: 0, tries: 0, faults: 0, request: null };
  uploads.push(upload);
  showWaiting(upload);
  return upload;
}

export function advance() {
  const most = line.trouble ? 1 : AT_ONCE; // one goes ahead to see whether the line holds
  if (!line.paused && !timer) inState("waiting").slice(0, Math.max(0, most - inState("sending").length)).forEach(send);
  line.changed();
}

export function goOn() {
  clearTimeout(timer);
  timer = 0;
  advance();
}

export function setPaused(paused) {
  line.paused = paused;
  inState("waiting").forEach(showWaiting);
  advance();
}

// The connection is gone: what is on its way will not arrive.

export function lose() {
  for (const upload of inState("sending")) {
    upload.request.abort();
    putBack(upload, "Connection lost.");
  }
}

export function drop(upload) {
  upload.state = "dropped";
  upload.request?.abort();
  upload.frame.remove();
  uploads.splice(uploads.indexOf(upload), 1);
  advance();
}

export function end(upload, sentence, { again = false } = {}) {
  upload.state = again ? "failed" : "refused";
  refuse(upload.frame, sentence);
  const action = again ? { label: "Retry", run: () => retry(upload) } : { label: "Remove", run: () => drop(upload) };
  setState(upload.frame, { glyph: "refused", tone: "red", word: again ? "Not stored" : "Not accepted", action });
  advance();
}

function retry(upload) {
  upload.faults = 0;
  forgive(upload.frame);
  showWaiting(upload);
  goOn();
}

function showWaiting(upload) {
  Object.assign(upload, { state: "waiting", sent: 0 });
  upload.frame.querySelector(".progress").value = 0;
  const glyph = line.paused || line.trouble ? "paused" : "waiting";
  setState(upload.frame, { glyph, tone: "quiet", word: "Waiting", fact: megabytes(upload.file.size), action: { label: "Remove", run: () => drop(upload) } });
}

function showSending(upload) {
  const { size } = upload.file;
  const percent = size ? Math.min(100, Math.floor((upload.sent / size) * 100)) : 0;
  upload.frame.querySelector(".progress").value = percent;
  setState(upload.frame, { glyph: "making", tone: "accent", word: "Uploading", fact: `${percent} % of ${megabytes(size)}`, action: { label: "Stop", run: () => drop(upload) } });
}

function send(upload) {
  const request = new XMLHttpRequest();
  const body = new FormData();
  body.append("images", upload.file);
  Object.assign(upload, { state: "sending", request, sent: 0 });
  const giveUp = () => { request.abort(); putBack(upload, "Connection lost."); };
  const listen = () => { clearTimeout(upload.silence); upload.silence = setTimeout(giveUp, SILENCE); };
  request.upload.onprogress = (event) => {
    listen();
    upload.sent = event.loaded;
    showSending(upload);
    line.changed();
  };
  request.onload = () => hear(upload, request);
  request.onerror = () => blame(upload);
  request.onloadend = () => clearTimeout(upload.silence);
  request.open("POST", address);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  showSending(upload);
  listen();
  request.send(body);
}

function hear(upload, { status, response }) {
  if (status === 401) return putBack(upload, "You are signed out. Sign in again in another window.");
  if (status === 429 || status >= 500) return blameServer(upload, response);
  line.trouble = "";
  pauses = 0;
  const image = response?.images?.[0];
  const error = response?.errors?.[0];
  if (image) keep(upload, image);
  else if (error) end(upload, error.message, { again: ["storage", "quota"].includes(error.code) });
  else end(upload, response?.error ?? "Not taken. The answer of the server was not understood. Try again.", { again: true });
  return advance();
}

function keep(upload, image) {
  upload.state = image.status;
  // Sent again after the line broke, it may be here since a moment ago: that is no news to anybody.
  const news = upload.tries ? { ...image, since: null } : image;
  const twin = uploads.find((other) => other !== upload && other.frame.id === `image-${image.id}`);
  if (twin) uploads.splice(uploads.indexOf(twin), 1);
  store(upload.frame, news, { checked: true });
}

// A request that broke off: either its file is gone, or the connection is.

async function blame(upload) {
  const readable = await upload.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
  if (upload.state !== "sending") return;
  if (readable) putBack(upload, "Connection lost.");
  else end(upload, "Not readable. The file was moved or changed after you chose it. Choose it again.");
}

function blameServer(upload, response) {
  upload.faults += 1;
  if (upload.faults < MOST_FAULTS) putBack(upload, "The server is away for a moment.");
  else end(upload, response?.error ?? "Not stored. The server had trouble with it four times. Try again in a minute.", { again: true });
}

function putBack(upload, trouble) {
  upload.tries += 1;
  line.trouble = trouble;
  showWaiting(upload);
  if (!timer) {
    timer = setTimeout(goOn, Math.min(LONGEST_PAUSE, 1000 * 2 ** pauses));
    pauses += 1;
  }
  line.changed();
}
