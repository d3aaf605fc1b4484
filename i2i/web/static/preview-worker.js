// Decodes one photo aside, so that the page never waits for it, and gives back a small bitmap of it.

const WIDTH = 320;

onmessage = async ({ data: file }) => {
  try {
    const bitmap = await createImageBitmap(file, { resizeWidth: WIDTH, resizeQuality: "medium" });
    postMessage(bitmap, [bitmap]);
  } catch {
    postMessage(null); // no photo: the server will say what it is
  }
};
