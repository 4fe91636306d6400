// Masks drawn over the image: a gray PNG is enlarged smoothly, then coloured with matplotlib's inferno.

const INFERNO = [
  "#000004", "#0b0724", "#210c4a", "#3d0965", "#57106e", "#71196e", "#8a226a", "#a32c61", "#bc3754",
  "#d24644", "#e45a31", "#f1731d", "#f98e09", "#fcac11", "#f9cb35", "#f2ea69", "#fcffa4",
].map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));

// 256 x RGB: INFERNO, interpolated.
const RAMP = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (INFERNO.length - 1);
  const below = Math.min(Math.floor(place), INFERNO.length - 2);
  return INFERNO[below].map((from, c) => from + (INFERNO[below + 1][c] - from) * (place - below));
});

/** The mask's PNG, decoded. `mask` is what the server sends: png, low, high, width, height. */
export function decode(mask) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("a mask could not be read"));
    image.src = mask.png;
  });
}

/** Fill a canvas with a decoded mask in colours. */
export function paint(canvas, image) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const data = pixels.data;
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue] = RAMP[data[at]];
    data[at] = red;
    data[at + 1] = green;
    data[at + 2] = blue;
    data[at + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** Beside the masks: how much the answer depends on them, place by place. */
export const COMBINED = "combined";

/** "stage2.1" of the names given as people say it: "Stage 2", with the module where a stage has several. */
export function readable(name, names) {
  if (name === COMBINED) return "Where it looked";
  const [, stage, module] = /^stage(\d+)\.(\d+)$/.exec(name) ?? [];
  if (!stage) return name;
  const several = names.filter((other) => other.startsWith(`stage${stage}.`)).length > 1;
  return several ? `Stage ${stage}, module ${Number(module) + 1}` : `Stage ${stage}`;
}
