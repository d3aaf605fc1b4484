// Choosing pictures in the history: those ticked, all on this page, or all that the filter finds.
// Without script the boxes, "All …" and the three buttons do the same.

const dock = document.getElementById("chosen");
const picks = [...document.querySelectorAll("#pictures .pick")];
const everything = document.querySelector("#everything input");
const words = document.getElementById("chosen-words");
const actions = document.getElementById("dock-actions");
const download = document.getElementById("download");
const found = dock.querySelector('[data-choose="everything"]')?.textContent.replace("All ", "");
let last = null;

function show() {
  const number = picks.filter((pick) => pick.checked).length;
  const said = everything.checked ? found : number.toLocaleString("en");
  words.textContent = number ? `${said} selected` : "Choose pictures";
  download.textContent = `Download ${everything.checked ? "all" : said} (ZIP)`;
  actions.hidden = !number;
  dock.querySelector('[data-choose="none"]').hidden = !number;
}

function choose(what) {
  for (const pick of picks) pick.checked = what !== "none";
  everything.checked = what === "everything";
  show();
}

// With the shift key all between this box and the one before follow it.

function onPick(event) {
  const index = picks.indexOf(event.target);
  if (index < 0) return;
  if (event.shiftKey && last !== null) {
    const [from, to] = [last, index].sort((a, b) => a - b);
    for (const pick of picks.slice(from, to + 1)) pick.checked = event.target.checked;
  }
  last = index;
  everything.checked = false;
  show();
}

document.getElementById("pictures").addEventListener("click", onPick);
dock.addEventListener("click", (event) => event.target.dataset.choose && choose(event.target.dataset.choose));
// What "all" means says the filter; the boxes would only make the address long.
dock.addEventListener("formdata", (event) => everything.checked && event.formData.delete("job"));
addEventListener("pageshow", show); // the browser puts ticks back after "back"

document.getElementById("dock-links").hidden = false;
document.getElementById("everything").hidden = true;
show();
