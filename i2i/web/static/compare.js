// The pull-tab: the original lies over the result and is cut off along a line that can be moved.
// Without script the two stand side by side, which stays one of the views.

const KEY = "i2i.view";
const pair = document.getElementById("pair");
const view = document.getElementById("view");

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function build() {
  const line = make("span", "tab-line");
  const tab = make("div", "tab");
  const range = make("input", "");
  Object.assign(range, { type: "range", min: 0, max: 100, value: 50, step: 1 });
  range.setAttribute("aria-label", "How much of the original is shown");
  const names = [make("span", "", "Original ◂"), make("span", "", "▸ Result")];
  for (const name of names) name.setAttribute("aria-hidden", "true");
  tab.append(...names, range);
  return { line, tab, range };
}

function compare() {
  const { line, tab, range } = build();
  pair.style.setProperty("--ratio", pair.dataset.width / pair.dataset.height);

  const move = (percent) => {
    const at = Math.min(100, Math.max(0, percent));
    range.value = at;
    range.setAttribute("aria-valuetext", `Original ${Math.round(at)} %, result ${Math.round(100 - at)} %`);
    pair.style.setProperty("--at", `${at}%`);
  };
  const follow = (event) => {
    const box = pair.getBoundingClientRect();
    move(((event.clientX - box.left) / box.width) * 100);
  };
  const comparing = () => pair.classList.contains("comparing");

  range.addEventListener("input", () => move(range.valueAsNumber));
  pair.addEventListener("pointerdown", (event) => {
    if (!comparing() || event.button) return;
    pair.setPointerCapture(event.pointerId);
    follow(event);
    range.focus({ preventScroll: true });
    event.preventDefault();
  });
  pair.addEventListener("pointermove", (event) => {
    if (comparing() && pair.hasPointerCapture(event.pointerId)) follow(event);
  });

  const show = (name) => {
    const slider = name !== "side";
    pair.classList.toggle("comparing", slider);
    if (slider) pair.append(line, tab);
    else for (const part of [line, tab]) part.remove();
    for (const button of view.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String((button.dataset.view === "slider") === slider));
    }
  };
  view.addEventListener("click", (event) => {
    const name = event.target.dataset.view;
    if (!name) return;
    show(name);
    localStorage.setItem(KEY, name);
  });
  view.hidden = false;
  move(50);
  show(localStorage.getItem(KEY) ?? "slider");
}

if (pair) compare();

// The grey around the photograph is kept from picture to picture.
const surround = document.querySelector(".surround");
if (surround) {
  const kept = localStorage.getItem("i2i.surround");
  for (const input of surround.querySelectorAll("input")) {
    input.checked = input.value === kept;
    input.addEventListener("change", () => localStorage.setItem("i2i.surround", input.value));
  }
}
