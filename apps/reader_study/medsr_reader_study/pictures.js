// Decodes the pictures and draws them: the same grey window, zoom and slice in every panel.

const WHOLE_WINDOW = { level: 50, width: 100 }; // per cent of the grey window that the pictures were made with

async function unpack(picture) {
  const packed = Uint8Array.from(atob(picture.data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const grey = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let i = 0; i < grey.length; i++) {
    if (i % picture.columns) grey[i] += grey[i - 1]; // each row holds differences, modulo 256
  }
  return grey;
}

function greyTable(view) {
  // The grey value on the screen of each of the 256 in the picture.
  const low = 2.55 * (view.level - view.width / 2);
  const high = 2.55 * (view.level + view.width / 2);
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => (255 * (value - low)) / (high - low));
}

class Panel {
  constructor(picture, letters, isAid) {
    this.picture = picture;
    this.grey = null;
    this.element = document.createElement("div");
    this.element.className = "panel";
    this.canvas = document.createElement("canvas");
    this.element.append(this.canvas);
    const texts = { label: picture.label, left: letters[0], right: letters[1], lower: letters[2], upper: letters[3] };
    for (const [name, text] of Object.entries(texts)) {
      const span = document.createElement("span");
      span.className = name + (name === "label" && isAid ? " aid" : "");
      span.textContent = text;
      this.element.append(span);
    }
    this.slice = document.createElement("canvas");
    this.slice.width = picture.columns;
    this.slice.height = picture.rows;
  }

  async decode() {
    this.grey = await unpack(this.picture);
  }

  get extent() {
    return [this.picture.columns * this.picture.pixel_mm[1], this.picture.rows * this.picture.pixel_mm[0]];
  }

  draw(view) {
    if (!this.grey) return;
    const { rows, columns } = this.picture;
    const table = greyTable(view);
    const context = this.slice.getContext("2d");
    const image = context.createImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const start = view.slice * rows * columns;
    for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | (table[this.grey[start + i]] * 0x010101);
    context.putImageData(image, 0, 0);
    this.show(view);
  }

  show(view) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.element.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.element.clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const [across, down] = this.extent;
    const scale = view.zoom * Math.min(width / across, height / down);
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    const left = width / 2 - scale * (across / 2 + view.across);
    const top = height / 2 - scale * (down / 2 + view.down);
    context.drawImage(this.slice, left, top, scale * across, scale * down);
    this.scale = scale / ratio; // CSS pixels per mm, for dragging
  }
}
