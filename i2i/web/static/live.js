// Keeps a batch page, or the page of one job, up to date while something moves. It asks at most every
// 2 seconds, less often while nothing changes, not at all in a hidden tab, and stops when all is done.

const SOONEST = 2000;
const LATEST = 15000;
const cards = document.getElementById("cards");
const review = document.querySelector("[data-renew]");
let pause = SOONEST;
let timer = 0;

// The provider's own time is counted on here between two answers, against the median, held at 95 %.

function countOn() {
  for (const card of document.querySelectorAll("[data-elapsed]")) {
    const elapsed = Number(card.dataset.elapsed) + 1;
    const usual = Number(card.dataset.usual);
    card.dataset.elapsed = elapsed;
    if (!usual) continue;
    const more = document.createElement("span");
    more.className = "fact-more";
    more.textContent = elapsed > usual * 1.2 ? ", longer than usual" : ` of about ${Math.round(usual)}`;
    card.querySelector("[data-fact]").replaceChildren(`${elapsed} s`, more);
    card.querySelector(".progress rect")?.setAttribute("width", Math.min(95, (elapsed / usual) * 100));
  }
}

// A card that changes keeps its loaded pictures and, if it had it, the focus.

function replace(old, fresh) {
  for (const image of fresh.querySelectorAll("img")) {
    const same = [...old.querySelectorAll("img")].find(
      (candidate) => candidate.getAttribute("src") === image.getAttribute("src"),
    );
    if (!same) continue;
    same.className = image.className;
    same.alt = image.alt;
    image.replaceWith(same);
  }
  const focusable = "a, button";
  const index = [...old.querySelectorAll(focusable)].indexOf(document.activeElement);
  old.replaceWith(fresh);
  if (index >= 0) {
    const targets = fresh.querySelectorAll(focusable);
    (targets[index] ?? targets[0])?.focus({ preventScroll: true });
  }
}

function merge(fragment) {
  document.title = fragment.dataset.title;
  cards.dataset.version = fragment.dataset.version;
  for (const fresh of [...fragment.children]) {
    const old = document.getElementById(fresh.id);
    if (fresh.id === "status") {
      // Only new words: a reader would announce the same sentence again.
      if (old.textContent !== fresh.textContent) old.textContent = fresh.textContent;
    } else if (old) {
      if (!old.isEqualNode(fresh)) replace(old, document.adoptNode(fresh));
    } else {
      cards.append(document.adoptNode(fresh));
    }
  }
  return "busy" in fragment.dataset;
}

async function parse(answer) {
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// Both answer whether to go on.

async function askBatch() {
  const { live, version } = cards.dataset;
  const url = new URL(live, location.href);
  url.searchParams.set("since", version);
  const answer = await fetch(url, { headers: { "If-None-Match": `"${version}"` } });
  if (answer.status === 304) {
    pause = Math.min(LATEST, pause * 1.3);
    return true;
  }
  if (answer.redirected || answer.status === 404) return false;
  if (!answer.ok) throw new Error(answer.status);
  const fragment = (await parse(answer)).querySelector("[data-version]");
  if (!fragment) return false;
  if (fragment.dataset.version !== version) pause = SOONEST;
  return merge(fragment);
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

async function ask() {
  if (document.hidden) return;
  let going = true;
  try {
    going = await (cards ? askBatch() : askJob());
  } catch {
    pause = Math.min(LATEST, pause * 2);
  }
  if (going) timer = setTimeout(ask, pause);
  else clearInterval(counting);
}

const counting = setInterval(countOn, 1000);
if ((cards && "busy" in cards.dataset) || review) {
  timer = setTimeout(ask, pause);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    pause = SOONEST;
    if (!document.hidden) ask();
  });
} else {
  clearInterval(counting);
}
