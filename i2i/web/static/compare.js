// The pull-tab: the left picture lies over the result and is cut off along a line that can be moved.
// Without script the two stand side by side, which stays one of the views. Both can be shown at their
// real pixels: then each lies in a window of its own, and whatever moves one moves the other.

const KEPT = { view: "i2i.view", surround: "i2i.surround" };
const pair = document.getElementById("pair");
const groups = { view: document.getElementById("view"), zoom: document.getElementById("zoom") };

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function press(group, name) {
  for (const button of groups[group].querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset[group] === name));
  }
}

function onPress(group, act) {
  groups[group].addEventListener("click", (event) => {
    const name = event.target.dataset[group];
    if (name) act(name);
  });
}

// The line, its tab and the range in it, which makes it work by keys.

function addSlider(names) {
  const line = make("span", "tab-line");
  const tab = make("div", "tab");
  const range = make("input", "");
  Object.assign(range, { type: "range", min: 0, max: 100, value: 50, step: 1 });
  range.setAttribute("aria-label", `How much of "${names[0]}" is shown`);
  const words = [make("span", "", `${names[0]} ◂`), make("span", "", `▸ ${names[1]}`)];
  for (const word of words) word.setAttribute("aria-hidden", "true");
  tab.append(...words, range);

  const move = (percent) => {
    const at = Math.min(100, Math.max(0, percent));
    range.value = at;
    const [left, right] = [Math.round(at), Math.round(100 - at)];
    range.setAttribute("aria-valuetext", `${names[0]} ${left} %, ${names[1]} ${right} %`);
    pair.style.setProperty("--at", `${at}%`);
  };
  range.addEventListener("input", () => move(range.valueAsNumber));

  const follow = (event) => {
    const box = pair.getBoundingClientRect();
    move(((event.clientX - box.left) / box.width) * 100);
  };
  // At real pixels the pictures themselves are dragged, and the line by its tab.
  const takes = (target) => tab.contains(target) || !pair.classList.contains("real");
  pair.addEventListener("pointerdown", (event) => {
    if (!pair.classList.contains("comparing") || event.button || !takes(event.target)) return;
    pair.setPointerCapture(event.pointerId);
    follow(event);
    range.focus({ preventScroll: true });
    event.preventDefault();
    pair.addEventListener("pointermove", follow);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pair.addEventListener(end, () => pair.removeEventListener("pointermove", follow));
  }
  move(50);
  return [line, tab];
}

// Two windows on two pictures of one size. Scrolling does the moving: by wheel, finger and arrow keys.

function joinWindows(windows) {
  const place = (one) => `${one.scrollLeft} ${one.scrollTop}`;
  const told = new Map();
  for (const one of windows) {
    one.addEventListener("scroll", () => {
      // Who was moved from here does not answer: that would stop a smooth scroll under way.
      if (told.get(one) === place(one)) return;
      for (const other of windows) {
        if (other === one) continue;
        other.scrollLeft = one.scrollLeft;
        other.scrollTop = one.scrollTop;
        told.set(other, place(other));
      }
    });
    one.addEventListener("pointerdown", (event) => {
      const grabbed = pair.classList.contains("real") && event.pointerType === "mouse";
      if (!grabbed || event.button) return;
      event.preventDefault();
      one.focus({ preventScroll: true });
      one.setPointerCapture(event.pointerId);
      const pan = (drag) => one.scrollBy({ left: -drag.movementX, top: -drag.movementY, behavior: "instant" });
      one.addEventListener("pointermove", pan);
      one.addEventListener("lostpointercapture", () => one.removeEventListener("pointermove", pan), { once: true });
    });
  }
}

function showRealPixels(windows) {
  for (const one of windows) {
    const image = one.querySelector("img");
    one.tabIndex = 0;
    one.setAttribute("role", "group");
    one.setAttribute("aria-label", `${image.alt}, real pixels. The arrow keys move both pictures.`);
    one.scrollLeft = (one.scrollWidth - one.clientWidth) / 2;
    one.scrollTop = (one.scrollHeight - one.clientHeight) / 2;
    fetchWhole(image);
  }
}

function showAll(windows) {
  for (const one of windows) {
    for (const name of ["tabindex", "role", "aria-label"]) one.removeAttribute(name);
    one.scrollTo(0, 0);
  }
}

// The preview stays until the whole file is there.

function fetchWhole(image) {
  const { full } = image.dataset;
  if (!full) return;
  delete image.dataset.full;
  const whole = new Image();
  whole.src = full;
  whole.decode().then(
    () => { image.src = full; },
    () => { image.dataset.full = full; },
  );
}

function compare() {
  const windows = [...pair.querySelectorAll(".view")];
  const names = [...pair.querySelectorAll("figcaption")].map((each) => each.textContent);
  const { width, height } = pair.dataset;
  pair.style.setProperty("--ratio", width / height);
  pair.style.setProperty("--real-width", `${width / devicePixelRatio}px`);
  pair.style.setProperty("--real-height", `${height / devicePixelRatio}px`);
  pair.classList.add("enhanced");
  const slider = addSlider(names);
  joinWindows(windows);

  const show = (name) => {
    const sliding = name !== "side";
    pair.classList.toggle("comparing", sliding);
    if (sliding) pair.append(...slider);
    else for (const part of slider) part.remove();
    press("view", sliding ? "slider" : "side");
  };
  onPress("view", (name) => {
    show(name);
    localStorage.setItem(KEPT.view, name);
  });
  onPress("zoom", (name) => {
    const real = name === "real";
    if (real === pair.classList.contains("real")) return;
    pair.classList.toggle("real", real);
    press("zoom", name);
    if (real) showRealPixels(windows);
    else showAll(windows);
  });
  show(localStorage.getItem(KEPT.view));
}

if (pair) compare();

// The grey around the photograph is kept from picture to picture; at first it is the page's own.
const surround = document.querySelector(".surround");
if (surround) {
  const own = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const kept = localStorage.getItem(KEPT.surround) ?? own;
  for (const input of surround.querySelectorAll("input")) {
    input.checked = input.value === kept;
    input.addEventListener("change", () => localStorage.setItem(KEPT.surround, input.value));
  }
}
