// Pixels as numbers.
import { describe, expect, it } from "vitest";
import { pictureShape, type PictureShape } from "../src/try/fields";
import { digitOf, pixelsToTensor, rangeFor, sizeFor } from "../src/try/pixels";

const shape = (dims: number[]): PictureShape => {
  const found = pictureShape(dims);
  if (!found) throw new Error("no picture");
  return found;
};
const RED_BLUE = [255, 0, 0, 255, 0, 0, 255, 255];

describe("pixels", () => {
  const small = (dims: number[], change: Partial<PictureShape>): PictureShape => ({ ...shape(dims), height: 1, width: 2, ...change });
  it("have the order of the shape", () => {
    expect(pixelsToTensor(RED_BLUE, 2, 1, small([8, 8, 3], {}), "0..255")).toEqual([[[255, 0, 0], [0, 0, 255]]]);
    expect(pixelsToTensor(RED_BLUE, 2, 1, small([3, 8, 8], {}), "0..1")).toEqual([[[1, 0]], [[0, 0]], [[0, 1]]]);
    expect(pixelsToTensor(RED_BLUE, 2, 1, small([1, 8, 8, 3], {}), "-1..1")).toEqual([[[[1, -1, -1], [-1, -1, 1]]]]);
  });
  it("are grey by their weights", () => {
    expect(pixelsToTensor(RED_BLUE, 2, 1, small([16, 16], {}), "0..255")).toEqual([[76, 29]]);
    expect(pixelsToTensor(RED_BLUE, 2, 1, small([784], {}), "0..255")).toEqual([76, 29]);
  });
  it("have the range of the dtype at first", () => {
    expect([rangeFor(true), rangeFor(false)]).toEqual(["0..255", "0..1"]);
  });
  it("are as many as the signature says, or as the picture has", () => {
    expect(sizeFor(shape([224, 200, 3]), 1000, 10)).toEqual({ width: 200, height: 224 });
    expect(sizeFor(shape([-1, -1, 3]), 1024, 256)).toEqual({ width: 512, height: 128 });
  });
});

describe("a drawn digit", () => {
  const side = 100;
  const drawn = (left: number, top: number, width: number, height: number): Uint8ClampedArray => {
    const ink = new Uint8ClampedArray(side * side);
    for (let y = top; y < top + height; y += 1) for (let x = left; x < left + width; x += 1) ink[y * side + x] = 255;
    return ink;
  };
  it("is centred, wherever it was drawn", () => {
    const one = digitOf(drawn(5, 5, 10, 60), side);
    const other = digitOf(drawn(80, 35, 10, 60), side);
    expect(one).toEqual(other);
    const columns = Array.from({ length: 28 }, (_, x) => Array.from({ length: 28 }, (_, y) => one?.[y * 28 + x] ?? 0).some((ink) => ink > 0));
    const used = columns.flatMap((is, x) => (is ? [x] : []));
    expect(Math.abs((Math.min(...used) + Math.max(...used)) / 2 - 13.5)).toBeLessThanOrEqual(1);
  });
  it("is 20 pixels high", () => {
    const digit = digitOf(drawn(5, 5, 10, 60), side);
    const rows = Array.from({ length: 28 }, (_, y) => Array.from({ length: 28 }, (_, x) => digit?.[y * 28 + x] ?? 0).some((ink) => ink > 0));
    expect(rows.filter(Boolean).length).toBe(20);
  });
  it("is none where nothing was drawn", () => {
    expect(digitOf(new Uint8ClampedArray(side * side), side)).toBeNull();
  });
});
