// The new-batch form: ranges beside numbers, settings that depend on another, and the sum in the docket.

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
  form.addEventListener("change", apply);
  apply();
}

// The docket. Prices are counted in millionths of a dollar, for 0.1 + 0.2 is not 0.3.

function money(millionths) {
  const [whole, part] = (millionths / 1e6).toFixed(4).split(".");
  return `$${Number(whole).toLocaleString("en")}.${part.replace(/0{1,2}$/, "")}`;
}

function addUp(form, docket) {
  const part = (name) => docket.querySelector(`[data-${name}]`);
  const variations = Number(new FormData(form).get("variations"));
  const pictures = Number(docket.dataset.photos) * variations;
  const counted = pictures.toLocaleString("en");
  part("variations").textContent = variations;
  part("pictures").textContent = counted;
  if (docket.dataset.each) part("total").textContent = money(pictures * Math.round(Number(docket.dataset.each) * 1e6));
  part("make").textContent = `Make ${counted} ${pictures === 1 ? "picture" : "pictures"}`;
}

// Other settings may change the price of each, which only the server knows. The button stays the same
// element, for a click on it may be under way.

async function askPrice(form, docket) {
  const url = new URL(form.querySelector("[data-update]").formAction);
  url.search = new URLSearchParams(new FormData(form));
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(answer.status);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-docket]");
  docket.dataset.each = fresh.dataset.each ?? "";
  docket.querySelector(".sum").replaceWith(document.adoptNode(fresh.querySelector(".sum")));
}

function keepSum(form, docket) {
  form.addEventListener("change", async (event) => {
    if (!["variations", "pilot", "reference"].includes(event.target.name)) {
      docket.querySelector("[data-total]").textContent = "…";
      await askPrice(form, docket).catch(() => {});
    }
    addUp(form, docket);
  });
}

function limitReferences(group) {
  const most = Number(group.dataset.most);
  const boxes = [...group.querySelectorAll("[name=reference]")];
  const apply = () => {
    const full = boxes.filter((box) => box.checked).length >= most;
    for (const box of boxes) box.disabled = full && !box.checked;
  };
  group.addEventListener("change", apply);
  apply();
}

const form = document.getElementById("new");
document.querySelectorAll("[data-slider]").forEach(addRange);
form.querySelectorAll("[data-when]").forEach((field) => followCondition(form, field));
form.querySelectorAll("[data-docket]").forEach((docket) => keepSum(form, docket));
form.querySelectorAll("[data-most]").forEach(limitReferences);
document.querySelector(".summary")?.focus();
