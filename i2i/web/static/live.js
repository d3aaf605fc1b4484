// Keeps a batch page, or the page of one job, up to date while something moves. It asks every 2 seconds,
// down to every 10 while nothing changes, not at all in a hidden tab, and stops when all is done.

const SOONEST = 2000;
const LATEST = 10000;
const LONGER = 1.2; // as in web/cards.py
const cards = document.getElementById("cards");
const review = document.querySelector("[data-renew]");
const status = document.getElementById("status");
let pause = SOONEST;
let timer = 0;
let asking = false;
let again = false;

// The provider's own time is counted on here between two answers, against the median, held at 95 %.
// It is taken from the clock, for timers in hidden tabs run late.

const begun = new WeakMap();

function countOn() {
  if (document.hidden) return;
  for (const card of document.querySelectorAll("[data-elapsed]")) {
    if (!begun.has(card)) begun.set(card, Date.now() - Number(card.dataset.elapsed) * 1000);
    const elapsed = Math.round((Date.now() - begun.get(card)) / 1000);
    const usual = Number(card.dataset.usual);
    if (!usual) {
      setFact(card, `${elapsed} s, no data yet`, `${elapsed} s`);
      continue;
    }
    const late = elapsed > usual * LONGER;
    card.toggleAttribute("data-late", late);
    const more = late ? ", longer than usual" : ` of about ${Math.round(usual)}`;
    setFact(card, `${elapsed} s${more}`, `${elapsed} s`);
    card.querySelector(".progress rect")?.setAttribute("width", Math.min(95, (elapsed / usual) * 100));
  }
}

function setFact(card, fact, short) {
  const [long, brief] = card.querySelectorAll(".state .fact");
  if (long) long.textContent = fact;
  if (brief) brief.textContent = short;
}

// A card that changes keeps its loaded pictures and, if it had it, the focus. A picture that is new
// is there before it takes the place of the old one.

const onScreen = (element) => {
  const box = element.getBoundingClientRect();
  return box.bottom > 0 && box.top < innerHeight;
};

async function decoded(images) {
  const patience = new Promise((resolve) => setTimeout(resolve, 3000));
  const all = images.map((image) => {
    image.loading = "eager";
    return image.decode().catch(() => {});
  });
  await Promise.race([Promise.all(all), patience]);
}

async function replace(old, fresh) {
  const have = new Map([...old.querySelectorAll("img")].map((image) => [image.getAttribute("src"), image]));
  const pictures = [...fresh.querySelectorAll("img")];
  const lacking = pictures.filter((image) => !have.has(image.getAttribute("src")));
  if (onScreen(old)) await decoded(lacking);
  for (const image of pictures) {
    const same = have.get(image.getAttribute("src"));
    if (!same) {
      image.classList.add("fresh");
      continue;
    }
    same.className = image.className;
    same.alt = image.alt;
    image.replaceWith(same);
  }
  const focusable = "a, button";
  const index = [...old.querySelectorAll(focusable)].indexOf(document.activeElement);
  old.replaceWith(fresh);
  if (index >= 0) {
    const targets = fresh.querySelectorAll(focusable);
    (targets[index] ?? targets[0] ?? document.getElementById("main")).focus({ preventScroll: true });
  }
}

// A reader would announce the same sentence again, so the line gets only new words.

function say(words) {
  if (status && status.textContent.trim() !== words) status.textContent = words;
}

async function merge(fragment) {
  document.title = fragment.dataset.title;
  cards.dataset.version = fragment.dataset.version;
  cards.dataset.since = fragment.dataset.since;
  const waits = [];
  for (const fresh of [...fragment.children]) {
    const old = document.getElementById(fresh.id);
    if (fresh.id === "status") say(fresh.textContent.trim());
    else if (fresh.id === "line") moveUp(fresh);
    else if (!old) fresh.matches("article") && cards.append(document.adoptNode(fresh));
    else if (fresh.id === "strip") redraw(old, fresh);
    else if (!old.isEqualNode(fresh)) waits.push(replace(old, document.adoptNode(fresh)));
  }
  await Promise.all(waits);
  if (cards.children.length !== Number(fragment.dataset.pictures)) location.reload();
  return "busy" in fragment.dataset;
}

// The frames of the strip stay, so that each can fill from below.

function redraw(old, fresh) {
  const cells = [...fresh.querySelectorAll("i")];
  if (!cells.length || old.children.length !== cells.length) return old.replaceWith(fresh);
  old.setAttribute("aria-label", fresh.getAttribute("aria-label"));
  cells.forEach((cell, place) => (old.children[place].className = cell.className));
}

function moveUp(line) {
  for (const item of line.children) {
    const card = cards.querySelector(`[data-position="${item.value}"]`);
    if (card) setFact(card, item.textContent, item.dataset.short);
  }
}

async function parse(answer) {
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// Both answer whether to go on.

async function askBatch() {
  const { live, version, since } = cards.dataset;
  const url = new URL(live, location.href);
  url.searchParams.set("since", since);
  const answer = await fetch(url, { headers: { "If-None-Match": `"${version}"` } });
  if (answer.status === 304) {
    pause = Math.min(LATEST, pause * 1.3);
    return "busy" in cards.dataset;
  }
  if (answer.redirected) {
    say("You were signed out. The pictures go on being made; sign in again to see them.");
    return false;
  }
  if (answer.status === 404) return false;
  if (!answer.ok) throw new Error(answer.status);
  const fragment = (await parse(answer)).querySelector("[data-version]");
  if (!fragment) return false;
  pause = SOONEST;
  cards.toggleAttribute("data-busy", await merge(fragment));
  return "busy" in cards.dataset;
}

async function askJob() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(answer.status);
  const fresh = (await parse(answer)).querySelector(".review");
  if (fresh?.dataset.state !== review.dataset.state) {
    location.reload();
    return false;
  }
  const words = review.querySelector("[data-fact]");
  if (words) words.textContent = fresh.querySelector("[data-fact]")?.textContent ?? "";
  pause = Math.min(LATEST, pause * 1.1);
  return true;
}

// A lost connection is said after the second time, and what was said before comes back with it.

const LOST = "Connection lost. The pictures go on being made; this page looks again by itself.";
let losses = 0;
let before = "";

function lose() {
  losses += 1;
  pause = Math.min(LATEST, pause * 2);
  if (!cards || losses !== 2) return;
  before = status.textContent;
  say(LOST);
}

function find() {
  if (losses > 1 && status?.textContent === LOST) say(before);
  losses = 0;
}

async function ask() {
  clearTimeout(timer);
  again = false;
  if (document.hidden) return;
  asking = true;
  let going = true;
  try {
    going = await (cards ? askBatch() : askJob());
    find();
  } catch {
    lose();
  }
  asking = false;
  if (going || again) timer = setTimeout(ask, again ? 0 : pause);
}

function askNow() {
  pause = SOONEST;
  if (asking) again = true;
  else ask();
}

// What a button does to one picture or to all shows here, where the reader is, and not on a page that
// begins at its top. All but a plain yes is left to the browser: a question, a refusal, another batch.

async function press(event) {
  const form = event.target;
  if (form.method !== "post" || !form.closest("#cards, #batch-actions, #pilot")) return;
  event.preventDefault();
  if ("pressed" in form.dataset) return;
  form.dataset.pressed = "";
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "application/json" },
    });
    if (!answer.ok) return form.submit();
    const { url } = await answer.json();
    if (url.startsWith("/batches/") && url !== location.pathname) return location.assign(url);
    askNow();
  } catch {
    lose();
  }
  delete form.dataset.pressed;
}

setInterval(countOn, 1000);
if (cards || review) {
  if (review || "busy" in cards.dataset) timer = setTimeout(ask, pause);
  document.addEventListener("visibilitychange", askNow);
  addEventListener("online", askNow);
  addEventListener("pageshow", (event) => event.persisted && askNow());
  if (cards) document.addEventListener("submit", press);
}
