// Pixels as a tensor's numbers: of a picture, and of a digit that was drawn. Pure.
import type { PictureShape } from "./fields";
import type { Value } from "./values";

export type Range = "0..1" | "-1..1" | "0..255";
export const RANGES: Range[] = ["0..1", "-1..1", "0..255"];

/** Whole numbers have no fractions, and uint8 is what pixels are; networks in floats mostly take 0…1. */
export function rangeFor(integer: boolean): Range {
  return integer ? "0..255" : "0..1";
}

export function rangesFor(integer: boolean): Range[] {
  return integer ? ["0..255"] : RANGES;
}

/** How large a picture of `width` × `height` is sent where the signature leaves a side open. */
export function sizeFor(shape: PictureShape, width: number, height: number, most = 512): { width: number; height: number } {
  const shrink = Math.min(1, most / Math.max(width, height, 1));
  const open = { width: Math.max(1, Math.round(width * shrink)), height: Math.max(1, Math.round(height * shrink)) };
  return { width: shape.width < 0 ? open.width : shape.width, height: shape.height < 0 ? open.height : shape.height };
}

function scaled(byte: number, range: Range): number {
  // Four digits are finer than 256 steps, and short.
  if (range === "0..255") return byte;
  return Number((range === "0..1" ? byte / 255 : byte / 127.5 - 1).toFixed(4));
}

/** RGBA bytes as nested lists of the shape; grey by the weights that Pillow has. */
export function pixelsToTensor(rgba: ArrayLike<number>, width: number, height: number, shape: PictureShape, range: Range): Value {
  const at = (y: number, x: number, channel: number): number => {
    const start = (y * width + x) * 4;
    const [r, g, b] = [rgba[start] ?? 0, rgba[start + 1] ?? 0, rgba[start + 2] ?? 0];
    if (shape.channels === 1) return scaled(Math.round(r * 0.299 + g * 0.587 + b * 0.114), range);
    return scaled(rgba[start + channel] ?? 0, range);
  };
  const list = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index));
  let value: Value;
  if (shape.flat) {
    value = list(width * height, (index) => at(Math.floor(index / width), index % width, 0));
  } else if (shape.bare) {
    value = list(height, (y) => list(width, (x) => at(y, x, 0)));
  } else if (shape.channelsFirst) {
    value = list(shape.channels, (channel) => list(height, (y) => list(width, (x) => at(y, x, channel))));
  } else {
    value = list(height, (y) => list(width, (x) => list(shape.channels, (channel) => at(y, x, channel))));
  }
  return shape.leading ? [value] : value;
}

const SIDE = 28;
const BOX = 20;

/**
 * A drawing (ink from 0 to 255, `side` × `side`) as MNIST has its digits: fitted into 20 × 20 pixels, with its centre
 * of mass in the middle of 28 × 28. Null if nothing is drawn.
 */
export function digitOf(ink: ArrayLike<number>, side: number): Uint8ClampedArray<ArrayBuffer> | null {
  let [left, top, right, bottom] = [side, side, -1, -1];
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      if ((ink[y * side + x] ?? 0) < 32) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  if (right < 0) return null;
  const size = Math.max(right - left + 1, bottom - top + 1);
  const step = size / BOX;
  const small = new Float64Array(BOX * BOX);
  let [mass, massX, massY] = [0, 0, 0];
  for (let y = 0; y < BOX; y += 1) {
    for (let x = 0; x < BOX; x += 1) {
      const value = meanOf(ink, side, left + x * step, top + y * step, step, right, bottom);
      small[y * BOX + x] = value;
      mass += value;
      massX += value * (x + 0.5);
      massY += value * (y + 0.5);
    }
  }
  const shiftX = Math.round(SIDE / 2 - massX / mass);
  const shiftY = Math.round(SIDE / 2 - massY / mass);
  const digit = new Uint8ClampedArray(SIDE * SIDE);
  for (let y = 0; y < BOX; y += 1) {
    for (let x = 0; x < BOX; x += 1) {
      const [toX, toY] = [x + shiftX, y + shiftY];
      if (toX >= 0 && toX < SIDE && toY >= 0 && toY < SIDE) digit[toY * SIDE + toX] = small[y * BOX + x] ?? 0;
    }
  }
  return digit;
}

/** The mean of the ink in a square; what is outside of the drawing counts as blank. */
function meanOf(ink: ArrayLike<number>, side: number, x: number, y: number, step: number, right: number, bottom: number): number {
  const [fromX, fromY] = [Math.floor(x), Math.floor(y)];
  const [toX, toY] = [Math.max(fromX + 1, Math.ceil(x + step)), Math.max(fromY + 1, Math.ceil(y + step))];
  let sum = 0;
  for (let row = fromY; row < toY; row += 1) {
    for (let column = fromX; column < toX; column += 1) {
      if (column <= right && row <= bottom && column < side && row < side) sum += ink[row * side + column] ?? 0;
    }
  }
  return sum / ((toX - fromX) * (toY - fromY));
}
