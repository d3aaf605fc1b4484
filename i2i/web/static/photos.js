// The photos on the upload page: what a frame says, and which ones are chosen for a batch.

export const photos = document.getElementById("photos");
export const photoCount = (n) => `${n} ${n === 1 ? "photo" : "photos"}`;
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

// Frames

export function setState(frame, { glyph, tone, word, fact = "", action = null }) {
  const line = frame.querySelector(".state");
  line.className = `state tone-${tone}`;
  const drawing = document.getElementById("glyphs").content.querySelector(`[data-glyph=${glyph}] svg`);
  line.querySelector(".glyph, .glyph-place").replaceWith(drawing.cloneNode(true));
  line.querySelector(".word").textContent = word;
  line.querySelector(".fact").textContent = fact;
  const button = line.querySelector(".state-action button");
  if (!button || button.hasAttribute("form")) return;
  button.hidden = !action;
  button.textContent = action?.label ?? "";
  button.onclick = action?.run ?? null;
}

export function refuse(frame, sentence) {
  const [title, ...rest] = sentence.split(/(?<=\.)\s+/);
  frame.classList.add("has-words");
  frame.querySelector(".picture")?.remove();
  frame.querySelector(".pick")?.remove();
  let words = frame.querySelector(".words");
  if (!words) {
    words = document.getElementById("new-frame").content.querySelector(".words").cloneNode(true);
    frame.querySelector(".state").before(words);
  }
  words.querySelector(".words-title").textContent = title.replace(/\.$/, "");
  words.querySelector(".words-why").textContent = rest.join(" ");
  words.hidden = false;
}

// A photo is ready once the worker has decoded it; until then its own preview stands here.

export function settle(frame, image) {
  const size = `${image.width} × ${image.height}`;
  if (image.status === "rejected") {
    refuse(frame, image.rejection ?? "Not readable. Copy it from the camera and add it again.");
    setState(frame, { glyph: "refused", tone: "red", word: "Not accepted" });
    count();
  } else if (image.status === "ready") {
    setState(frame, { glyph: "ready", tone: "ink", word: image.duplicate ? "Already here" : "Ready", fact: size });
    if (!frame.querySelector(".picture").src.startsWith("blob:")) frame.querySelector(".picture").src = image.thumbnail_url;
  } else {
    setState(frame, { glyph: "preparing", tone: "quiet", word: "Preparing", fact: megabytes(image.file_size) });
    watch(frame);
  }
}

function watch(frame, wait = 1500) {
  setTimeout(async () => {
    if (!frame.isConnected) return;
    const answer = await fetch(frame.dataset.url, { headers: { Accept: "application/json" } }).catch(() => null);
    const image = answer?.ok ? await answer.json().catch(() => null) : null;
    if (!image || image.status === "preparing") watch(frame, Math.min(10000, wait * 1.4));
    else settle(frame, image);
  }, wait);
}

// The choice of photos

export function count() {
  const n = photos.querySelectorAll(".pick:checked").length;
  document.getElementById("chosen").textContent = n ? `${n} selected` : "Choose the photos to work on.";
  document.getElementById("start").textContent = n ? `New batch with ${photoCount(n)}` : "New batch";
  document.getElementById("start").disabled = !n;
  document.getElementById("dock-links").hidden = false;
}

function tick(checked) {
  for (const pick of photos.querySelectorAll(".pick")) pick.checked = checked;
  count();
}

photos.addEventListener("change", count);
document.getElementById("all").addEventListener("click", () => tick(true));
document.getElementById("none").addEventListener("click", () => tick(false));
photos.querySelectorAll("[data-preparing]").forEach((frame) => watch(frame));
count();
