// The new-batch form: ranges beside numbers, settings that depend on another, more references, and the
// sum in the docket.

// Sliders. The number is the real input; the range only moves it.

function addRange(slider) {
  const number = slider.querySelector(".slider-number");
  const { minimum, maximum } = number.dataset;
  const stops = (slider.dataset.stops ?? "").split(";").filter(Boolean).map((stop) => {
    const [value, label] = stop.split("=");
    return { value: Number(value), label };
  });
  const range = document.createElement("input");
  // Whole bounds further apart than 2 mean whole steps; 0 to 1 is divided finely.
  const step = maximum - minimum > 2 ? 1 : 0.01;
  Object.assign(range, { type: "range", min: minimum, max: maximum, step });
  range.setAttribute("aria-label", slider.parentElement.querySelector("label").textContent);
  const word = document.createElement("span");
  word.className = "slider-word";

  const name = () => {
    const nearest = stops.reduce(
      (best, stop) => (best && Math.abs(best.value - range.value) <= Math.abs(stop.value - range.value) ? best : stop),
      null,
    );
    word.textContent = nearest?.label ?? "";
    if (nearest) range.setAttribute("aria-valuetext", `${range.value}, ${nearest.label}`);
  };
  const read = () => {
    const typed = Number(number.value);
    if (number.value.trim() && Number.isFinite(typed)) range.value = typed;
    name();
  };
  range.addEventListener("input", () => {
    number.value = range.value;
    name();
  });
  number.addEventListener("input", read);
  slider.prepend(range);
  slider.parentElement.append(word);
  slider.classList.add("enhanced");
  if (stops.length) {
    const ends = slider.querySelectorAll(".ends span:not(.ends-to)");
    ends[0].textContent = stops[0].label;
    ends[1].textContent = stops.at(-1).label;
  }
  read();
}

// Settings that only count with a certain value of another one; what is hidden is not sent.

function followCondition(form, field) {
  const { when, whenValue } = field.dataset;
  const apply = () => {
    const shown = new FormData(form).getAll(when).includes(whenValue);
    field.hidden = !shown;
    for (const input of field.querySelectorAll("input, select")) input.disabled = !shown;
  };
  field.querySelector("[data-when-words]").remove();
  form.addEventListener("change", apply);
  apply();
}

// The docket. Counts are known here at once; what they cost, and how long they take, the server says.
// Prices are counted in millionths of a dollar, for 0.1 + 0.2 is not 0.3.

function money(millionths) {
  const [whole, part] = (millionths / 1e6).toFixed(4).split(".");
  return `$${Number(whole).toLocaleString("en")}.${part.replace(/0{1,2}$/, "")}`;
}

function addUp(form, docket) {
  const part = (name) => docket.querySelector(`[data-${name}]`);
  const sent = new FormData(form);
  const photos = Number(docket.dataset.photos);
  const variations = Number(sent.get("variations"));
  const pictures = photos * variations;
  const pilot = sent.has("pilot") ? Number(sent.get("pilot_photos")) : 0;
  const first = pilot > 0 && pilot < photos ? pilot * variations : 0;
  const shown = first || pictures;
  part("variations").textContent = variations;
  part("pictures").textContent = pictures.toLocaleString("en");
  if (docket.dataset.each) part("total").textContent = money(pictures * Math.round(Number(docket.dataset.each) * 1e6));
  // The button stays the same element, for a click on it may be under way.
  part("make").textContent = `Make ${first ? "the first " : ""}${shown.toLocaleString("en")} ${shown === 1 ? "picture" : "pictures"}`;
}

function keepSum(form, side) {
  const docket = side.querySelector("[data-docket]");
  const update = side.querySelector("[data-update]");
  let asked = new AbortController();
  let timer;

  const ask = async () => {
    asked.abort();
    asked = new AbortController();
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(side.dataset.estimate, { method: "POST", body, signal: asked.signal });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const sum = fresh.querySelector("[data-docket]");
    docket.dataset.each = sum.dataset.each ?? "";
    for (const name of ["make", "warning", "sentence"]) {
      const [from, to] = [sum, docket].map((each) => each.querySelector(`[data-${name}]`));
      if (from.textContent !== to.textContent) to.textContent = from.textContent;
    }
    docket.querySelector(".sum").replaceWith(document.adoptNode(sum.querySelector(".sum")));
    side.querySelector("[data-notes]").replaceWith(document.adoptNode(fresh.querySelector("[data-notes]")));
    update.hidden = true;
  };
  const renew = () =>
    ask().catch((error) => {
      if (error.name === "AbortError") return;
      docket.querySelector("[data-total]").textContent = "…";
      update.hidden = false;
    });

  form.addEventListener("input", (event) => {
    if (["preset_name", "preset_replace", "reference"].includes(event.target.name)) return;
    addUp(form, docket);
    clearTimeout(timer);
    timer = setTimeout(renew, 200);
  });
  update.hidden = true;
  return renew;
}

// Enter in a field never spends money: it renews the sum, or saves the preset whose name is typed.

function tameEnter(form, renew) {
  form.addEventListener("submit", (event) => {
    if (event.submitter !== form.querySelector("button")) return;
    event.preventDefault();
    renew();
  });
  form.querySelector("[name=preset_name]").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    form.querySelector("[data-save]").click();
  });
}

function followPilot(offer, photos) {
  const [box, count] = offer.querySelectorAll("input");
  count.addEventListener("input", () => {
    const first = Number(count.value);
    box.checked = !["", "0"].includes(count.value.trim());
    if (first > 0 && first < photos) offer.querySelector("[data-rest]").textContent = photos - first;
  });
}

// What was filled in by a start is not it any more once a setting was changed.

function followStarts(form) {
  const starts = form.querySelectorAll("[name=preset]");
  const others = ["variations", "pilot", "pilot_photos", "reference", "preset_name", "preset_replace"];
  form.addEventListener("input", ({ target }) => {
    if (!others.includes(target.name)) for (const start of starts) start.setAttribute("aria-pressed", "false");
  });
}

// References: as many as the workflow takes, and more of the uploads below those shown.

function followReferences(form, group) {
  const most = Number(group.dataset.most);
  const thumbs = group.querySelector("[data-references]");
  const apply = () => {
    const boxes = [...thumbs.querySelectorAll("[name=reference]")];
    const full = boxes.filter((box) => box.checked).length >= most;
    for (const box of boxes) box.disabled = full && !box.checked;
  };
  const fetchMore = async (button) => {
    const sent = new URLSearchParams(new FormData(form, button));
    const url = new URL(button.formAction);
    const reading = button.formMethod === "get";
    if (reading) url.search = sent;
    const answer = await fetch(url, reading ? {} : { method: "POST", body: sent });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const here = new Set([...thumbs.querySelectorAll("[name=reference]")].map((box) => box.value));
    const fresh = [...page.querySelectorAll("[data-references] > *")].filter((thumb) => !here.has(thumb.querySelector("input").value));
    thumbs.append(...fresh.map((thumb) => document.adoptNode(thumb)));
    const older = page.querySelector("[data-more] button");
    if (older?.value) button.value = older.value;
    else button.remove();
    apply();
    fresh[0]?.querySelector("input").focus();
  };
  group.addEventListener("change", apply);
  group.addEventListener("click", (event) => {
    const button = event.target.closest("[name=uploads][value]:not([value=''])");
    if (!button) return;
    event.preventDefault();
    fetchMore(button).catch(() => form.requestSubmit(button));
  });
  apply();
}

const form = document.getElementById("new");
const side = form.querySelector("[data-estimate]");
document.querySelectorAll("[data-slider]").forEach(addRange);
form.querySelectorAll("[data-when]").forEach((field) => followCondition(form, field));
form.querySelectorAll("[data-most]").forEach((group) => followReferences(form, group));
form.querySelectorAll("[data-pilot]").forEach((offer) => followPilot(offer, Number(side.querySelector("[data-photos]").dataset.photos)));
followStarts(form);
tameEnter(form, keepSum(form, side));
document.querySelector(".summary")?.focus();
