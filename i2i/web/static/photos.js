// The frames of the upload page: what each of them says.

export const photos = document.getElementById("photos");
export const photoCount = (n) => `${n} ${n === 1 ? "photo" : "photos"}`;
export const megabytes = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

const template = document.getElementById("new-frame").content;
const glyphs = document.getElementById("glyphs").content;

// The line under a frame. `action` is one button; the one for a stored photo posts a form and stays as it is.

export function setState(frame, { glyph, tone, word, fact = "", action = null }) {
  const line = frame.querySelector(".state");
  line.className = `state tone-${tone}`;
  const drawing = glyphs.querySelector(`[data-glyph=${glyph}] svg`);
  line.querySelector(".glyph, .glyph-place").replaceWith(drawing.cloneNode(true));
  line.querySelector(".word").textContent = word;
  line.querySelector(".fact").textContent = fact;
  const button = line.querySelector(".state-action button");
  if (button.hasAttribute("form")) return;
  button.hidden = !action;
  if (!action || button.dataset.label === action.label) return;
  button.dataset.label = action.label;
  nameButton(button, action.label, frame);
  button.onclick = action.run;
}

function nameButton(button, label, frame) {
  const about = document.createElement("span");
  about.className = "vh";
  about.textContent = ` ${frame.dataset.name}`;
  button.replaceChildren(label, about);
}

export function newFrame(name) {
  const frame = template.firstElementChild.cloneNode(true);
  frame.dataset.name = name;
  frame.querySelector("label").textContent = name;
  frame.querySelector(".progress").setAttribute("aria-label", `Upload of ${name}`);
  return frame;
}

// Words in place of the picture: the title up to the first full stop, then the way out.

export function refuse(frame, sentence) {
  const [title, ...rest] = sentence.split(/(?<=\.)\s+/);
  frame.classList.add("has-words");
  frame.querySelector(".picture").hidden = true;
  frame.querySelector(".pick")?.remove();
  let words = frame.querySelector(".words");
  if (!words) {
    words = template.querySelector(".words").cloneNode(true);
    frame.querySelector(".state").before(words);
  }
  words.querySelector(".words-title").textContent = title.replace(/\.$/, "");
  words.querySelector(".words-why").textContent = rest.join(" ");
  words.hidden = false;
}

export function forgive(frame) {
  frame.classList.remove("has-words");
  frame.querySelector(".words").hidden = true;
  frame.querySelector(".picture").hidden = false;
}

// A stored photo: it can be chosen and removed, as one that came with the page.

export function store(frame, image, { checked }) {
  // The same photo may already lie on the page; one frame of it is enough.
  document.getElementById(`image-${image.id}`)?.remove();
  frame.id = `image-${image.id}`;
  frame.querySelector(".progress").remove();
  const pick = document.createElement("input");
  Object.assign(pick, { type: "checkbox", className: "pick", name: "image", value: image.id, id: `pick-${image.id}`, checked });
  frame.querySelector(".mat").after(pick);
  frame.querySelector("label").htmlFor = pick.id;
  const remove = frame.querySelector(".state-action button");
  Object.assign(remove, { type: "submit", hidden: false, onclick: null });
  remove.setAttribute("form", "removal");
  remove.setAttribute("formaction", `${image.url}/delete`);
  nameButton(remove, "Remove", frame);
  settle(frame, image);
}

// What became of a stored photo. It is ready once the server has decoded it; until then, and after,
// its own preview stands here.

export function settle(frame, image) {
  frame.toggleAttribute("data-preparing", image.status === "preparing");
  frame.toggleAttribute("data-ready", image.status === "ready");
  if (image.since) frame.dataset.since = image.since;
  if (image.status === "rejected") {
    refuse(frame, image.rejection);
    setState(frame, { glyph: "refused", tone: "red", word: "Not accepted" });
  } else if (image.status === "preparing") {
    setState(frame, { glyph: "preparing", tone: "quiet", word: "Preparing", fact: megabytes(image.file_size) });
  } else {
    const { since } = frame.dataset;
    const fact = `${image.width} × ${image.height}`;
    setState(frame, { glyph: "ready", tone: "ink", word: since ? "Already here," : "Ready", fact: since ? `since ${since}` : fact });
    const picture = frame.querySelector("img.picture");
    if (picture) picture.src = image.thumbnail_url;
  }
  frame.dispatchEvent(new CustomEvent("settled", { bubbles: true, detail: image }));
}
