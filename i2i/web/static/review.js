// Looking through a batch by keys. Every key presses something that is on the page, so it works without
// them; they are silent in a text, beside Ctrl, Alt and Meta, and where they are switched off.

const review = document.getElementById("review");
const dialog = document.getElementById("keys");
const reject = document.getElementById("reject");
let leaving = false;

const press = (selector) => document.querySelector(selector)?.click();

function pressOther(group) {
  press(`#${group} [aria-pressed="false"]`);
}

function follow(rel) {
  const link = review.querySelector(`.tools a[rel="${rel}"]`);
  if (!link || leaving) return;
  leaving = true;
  link.click();
}

function approve() {
  const form = document.getElementById("approve");
  if (!form || leaving) return;
  leaving = true;
  form.requestSubmit();
}

function openReasons() {
  if (!reject) return;
  reject.open = !reject.open;
  const chosen = reject.querySelector("[name=reason]:checked") ?? reject.querySelector("[name=reason]");
  (reject.open ? chosen : reject.querySelector("summary")).focus();
}

function choose(number) {
  const reason = reject?.open && reject.querySelectorAll("[name=reason]")[number - 1];
  if (!reason) return;
  reason.checked = true;
  reason.focus();
}

// At real pixels the arrows belong to the pictures, so they get the focus.

function zoom() {
  pressOther("zoom");
  const view = document.querySelector("#pair .pair-result .view");
  if (view?.tabIndex === 0) view.focus({ preventScroll: true });
  else document.activeElement.blur();
}

const KEYS = {
  a: approve,
  r: openReasons,
  c: () => pressOther("view"),
  z: zoom,
  "?": () => dialog.showModal(),
  arrowleft: () => follow("prev"),
  arrowright: () => follow("next"),
};

const TEXT = "input:not([type=radio], [type=checkbox], [type=range]), textarea, select, [contenteditable]";
const MOVED_BY_ARROWS = "input, [tabindex='0']";

function onKey(event) {
  const { key, target } = event;
  if (!("on" in dialog.dataset) || dialog.open || event.defaultPrevented || event.isComposing) return;
  if (event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && key !== "?")) return;
  if (target.closest(TEXT) || (key.startsWith("Arrow") && target.closest(MOVED_BY_ARROWS))) return;
  if (key >= "1" && key <= "6") return choose(Number(key));
  const act = KEYS[key.toLowerCase()];
  if (!act || event.repeat) return;
  event.preventDefault();
  act();
}

function onEscape(event) {
  if (event.key !== "Escape" || !reject?.open || dialog.open) return;
  reject.open = false;
  reject.querySelector("summary").focus();
}

// The switch in the help counts at once.

async function switchKeys(event) {
  const on = event.target.checked;
  dialog.toggleAttribute("data-on", on);
  document.body.classList.toggle("without-keys", !on);
  const form = document.getElementById("keys-form");
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
  if (!answer.ok) location.reload();
}

// The files of the next pictures are there before they are asked for.

function fetchAhead() {
  for (const url of review.dataset.ahead.split(" ").filter(Boolean)) new Image().src = url;
}

function showInFilm(frame) {
  if (!frame) return;
  const strip = frame.closest("ol");
  strip.scrollLeft = frame.offsetLeft - (strip.clientWidth - frame.offsetWidth) / 2;
}

if (review) {
  document.addEventListener("keydown", onKey);
  document.addEventListener("keydown", onEscape);
  document.getElementById("keys-form").addEventListener("change", switchKeys);
  document.getElementById("keys-open").addEventListener("click", () => dialog.showModal());
  addEventListener("pageshow", () => { leaving = false; });
  addEventListener("load", fetchAhead);
  showInFilm(document.querySelector(".film [aria-current]"));
  reject?.querySelector(".summary")?.focus();
}
