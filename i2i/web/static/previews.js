// Local previews, one after the other: fifty photos of a camera decoded at once would need gigabytes.

const queue = [];
let current = null;
let worker = null;

export function preview(file, canvas) {
  queue.push({ file, canvas });
  if (!current) next();
}

function next() {
  do current = queue.shift(); while (current && !current.canvas.isConnected);
  if (current) {
    worker ??= startWorker();
    worker.postMessage(current.file);
  } else {
    worker?.terminate(); // and what decoding has left in memory
    worker = null;
  }
}

function startWorker() {
  const started = new Worker(new URL("./preview-worker.js", import.meta.url));
  started.onmessage = ({ data: bitmap }) => {
    if (bitmap) draw(bitmap, current.canvas);
    next();
  };
  return started;
}

function draw(bitmap, canvas) {
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}
