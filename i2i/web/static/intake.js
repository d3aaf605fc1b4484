// The ways in: dropped anywhere on the page, pasted, chosen, and whole folders.

const PHOTO = /\.(jpe?g|png|webp)$/i;
const isHidden = (name) => name.startsWith(".");

// Calls `take` with the files, and how many others in the folders were left out.

export function listen(take) {
  const input = document.getElementById("files");
  const folder = Object.assign(document.createElement("input"), { type: "file", webkitdirectory: true });
  const empty = (field) => { field.value = ""; };
  input.addEventListener("change", () => { take([...input.files], 0); empty(input); });
  folder.addEventListener("change", () => { takeFolder([...folder.files], take); empty(folder); });
  for (const id of ["choose", "add"]) document.getElementById(id).addEventListener("click", () => input.click());
  for (const id of ["choose-folder", "add-folder"]) {
    const button = document.getElementById(id);
    button.addEventListener("click", () => folder.click());
    button.hidden = !("webkitdirectory" in HTMLInputElement.prototype) || matchMedia("(pointer: coarse)").matches;
  }
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) take([...event.clipboardData.files], 0); });
  listenToDrags(take);
}

function takeFolder(files, take) {
  const seen = files.filter((file) => !file.webkitRelativePath.split("/").some(isHidden));
  const fit = seen.filter((file) => PHOTO.test(file.name));
  take(fit, seen.length - fit.length);
}

function listenToDrags(take) {
  const show = (dragging) => document.body.classList.toggle("dragging", dragging);
  for (const type of ["dragenter", "dragover"]) {
    document.addEventListener(type, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
      show(true);
    });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) show(false); });
  // While something is dragged the pointer tells nothing else; so when it does, the drag has ended elsewhere.
  document.addEventListener("pointermove", () => show(false));
  document.addEventListener("drop", (event) => {
    show(false);
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    takeDropped(event.dataTransfer, take);
  });
}

// What was dropped is only known until the event ends, so all of it is asked for at once.

async function takeDropped(transfer, take) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return take([...transfer.files], 0);
  const walked = await Promise.all(entries.map((entry) => (entry.isFile ? open(entry) : walk(entry))));
  const files = walked.flat().filter(Boolean);
  const folders = walked.filter(Array.isArray).flat();
  const others = new Set(folders.filter((file) => file && !PHOTO.test(file.name)));
  return take(files.filter((file) => !others.has(file)), others.size);
}

const open = (entry) => new Promise((resolve) => { entry.file(resolve, () => resolve(null)); });

async function walk(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve) => { reader.readEntries(resolve, () => resolve([])); }); // 100 at most
    if (!some.length) return found;
    for (const entry of some.filter(({ name }) => !isHidden(name))) {
      if (entry.isFile) found.push(await open(entry));
      else found.push(...await walk(entry));
    }
  }
}
