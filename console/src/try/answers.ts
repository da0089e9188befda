// From a reply to what is shown of it: a value, bars for scores of classes, a heat map, a picture, text. Pure.
import type { Signature, Tensor } from "../api";
import { texts } from "../texts";
import { Whole, type Value } from "./values";

export type Shown =
  | { kind: "value"; value: number | string | boolean | null }
  | { kind: "text"; text: string }
  | { kind: "file"; type: string | null; base64: string; bytes: number }
  | { kind: "values"; values: string[]; total: number }
  | { kind: "bars"; bars: Bar[]; total: number; shares: boolean }
  | { kind: "heat"; cells: number[][]; low: number; high: number }
  | { kind: "picture"; height: number; width: number; pixels: Uint8ClampedArray<ArrayBuffer> }
  | { kind: "json"; value: Value };

export interface Bar {
  label: string;
  value: number;
  /** Of the longest bar, from 0 to 1. */
  length: number;
}

export interface Output {
  name: string;
  value: Value;
}

/** One row of an answer, or all of it where it is not made of rows. */
export type Row = Output[];

const MOST_BARS = 10;
const MOST_VALUES = 200;
const MOST_ROWS = 50;
const SCORES = /score|prob|softmax|class|logit|predict|confidence/i;

/** Takes a reply of `:predict` apart. Rows beyond `MOST_ROWS` are counted, not shown. */
export function rowsOf(reply: Value, signature: Signature | undefined): { rows: Row[]; total: number } {
  if (!isObject(reply)) return { rows: [[{ name: "", value: reply }]], total: 1 };
  const outputs = signature?.outputs ?? [];
  const row = (value: Value): Row => {
    const named = isObject(value) && !isBytes(value) && outputs.length !== 1;
    if (!named) return [{ name: outputs.length === 1 ? (outputs[0]?.name ?? "") : "", value }];
    return Object.entries(value).map(([name, one]) => ({ name, value: one }));
  };
  const predictions = reply["predictions"];
  if (Array.isArray(predictions)) return { rows: predictions.slice(0, MOST_ROWS).map(row), total: predictions.length };
  return { rows: [row(reply["outputs"] ?? reply)], total: 1 };
}

/** How an output is shown best; `row` is what it came with, where labels of its scores may be. */
export function shownOf(output: Output, row: Row): Shown {
  const { value } = output;
  if (value === null || typeof value === "number" || typeof value === "boolean") return { kind: "value", value };
  if (value instanceof Whole) return { kind: "value", value: value.digits };
  if (typeof value === "string") return { kind: "text", text: value };
  if (isBytes(value)) return fileOf(value.b64);
  if (!Array.isArray(value)) return { kind: "json", value };
  return ofArray(output.name, unwrapped(value), row) ?? { kind: "json", value };
}

/** Whole tensors of one row have a first dimension of 1, which says nothing. */
function unwrapped(value: Value[]): Value[] {
  let inner = value;
  while (inner.length === 1 && Array.isArray(inner[0])) inner = inner[0];
  return inner;
}

function ofArray(name: string, value: Value[], row: Row): Shown | null {
  if (value.length === 1 && typeof value[0] === "string") return { kind: "text", text: value[0] };
  if (value.length === 1 && isBytes(value[0])) return fileOf(value[0].b64);
  if (value.every(isNumber)) return ofVector(name, value, row);
  if (value.every((one) => !Array.isArray(one) && (typeof one !== "object" || one === null || one instanceof Whole))) {
    return { kind: "values", values: value.slice(0, MOST_VALUES).map(plain), total: value.length };
  }
  return ofGrid(value);
}

function ofVector(name: string, values: number[], row: Row): Shown {
  const shares = areShares(values);
  const labels = labelsFor(values.length, name, row);
  if (values.length >= 2 && values.every(Number.isFinite) && (shares || labels !== null || SCORES.test(name)) && !/^classes$|_ids?$|index/i.test(name)) {
    return barsOf(values, labels, shares);
  }
  return { kind: "values", values: values.slice(0, MOST_VALUES).map(plain), total: values.length };
}

/** Probabilities of classes: none below 0, together 1. Whole numbers (a one-hot row) are some, too. */
export function areShares(values: number[]): boolean {
  if (values.length < 2 || !values.every((one) => one >= 0 && one <= 1.0001)) return false;
  const sum = values.reduce((total, one) => total + one, 0);
  return Math.abs(sum - 1) < 0.01;
}

function labelsFor(count: number, name: string, row: Row): string[] | null {
  for (const other of row) {
    if (other.name === name || !Array.isArray(other.value)) continue;
    const inner = unwrapped(other.value);
    if (inner.length === count && inner.every((one) => typeof one === "string")) return inner;
  }
  return null;
}

function barsOf(values: number[], labels: string[] | null, shares: boolean): Shown {
  const order = values.map((_, index) => index).sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0));
  const best = order.slice(0, MOST_BARS);
  const longest = Math.max(...best.map((index) => Math.abs(values[index] ?? 0)), Number.MIN_VALUE);
  const within = shares || values.every((one) => one >= 0 && one <= 1);
  const bars = best.map((index) => {
    const value = values[index] ?? 0;
    return { label: labels?.[index] ?? texts.try.class(index), value, length: within ? Math.min(1, value) : Math.max(0, value / longest) };
  });
  return { kind: "bars", bars, total: values.length, shares: within };
}

function ofGrid(value: Value[]): Shown | null {
  const height = value.length;
  const first = value[0];
  if (!Array.isArray(first) || height < 2 || first.length < 2) return null;
  const width = first.length;
  const channels = Array.isArray(first[0]) ? first[0].length : 0;
  const flat: number[] = [];
  for (const line of value) {
    if (!Array.isArray(line) || line.length !== width) return null;
    for (const cell of line) {
      if (channels === 0) {
        if (!isNumber(cell)) return null;
        flat.push(cell);
      } else {
        if (!Array.isArray(cell) || cell.length !== channels || !cell.every(isNumber)) return null;
        flat.push(...cell);
      }
    }
  }
  if (channels === 3 || channels === 4) return height >= 8 && width >= 8 ? pictureOf(flat, height, width, channels) : null;
  if (channels > 1) return null;
  const { low, high } = extent(flat);
  const cells = Array.from({ length: height }, (_, y) => flat.slice(y * width, (y + 1) * width));
  return { kind: "heat", cells, low, high };
}

function extent(values: number[]): { low: number; high: number } {
  let low = Infinity;
  let high = -Infinity;
  for (const one of values) {
    if (!Number.isFinite(one)) continue;
    low = Math.min(low, one);
    high = Math.max(high, one);
  }
  return low <= high ? { low, high } : { low: 0, high: 0 };
}

/** Numbers as pixels: of 0…1, of −1…1, of 0…255, or of whatever range they have. */
function pictureOf(values: number[], height: number, width: number, channels: 3 | 4): Shown {
  const { low, high } = extent(values);
  const [from, to] = low >= 0 ? (high <= 1 ? [0, 1] : high <= 255 ? [0, 255] : [low, high]) : low >= -1 && high <= 1 ? [-1, 1] : [low, high];
  const scale = 255 / (to - from || 1);
  const pixels = new Uint8ClampedArray(height * width * 4);
  for (let index = 0; index < height * width; index += 1) {
    for (let channel = 0; channel < 4; channel += 1) {
      const value = channel < channels ? ((values[index * channels + channel] ?? 0) - from) * scale : 255;
      pixels[index * 4 + channel] = value;
    }
  }
  return { kind: "picture", height, width, pixels };
}

const MAGIC: [string, string][] = [
  ["\x89PNG", "image/png"],
  ["\xff\xd8\xff", "image/jpeg"],
  ["GIF8", "image/gif"],
];

/** Bytes that a model answered; pictures are known by how they begin. */
export function fileOf(base64: string): Shown {
  const bytes = Math.floor((base64.replace(/=+$/, "").length * 3) / 4);
  let head: string;
  try {
    head = atob(base64.slice(0, 16));
  } catch {
    return { kind: "text", text: base64 };
  }
  const type = MAGIC.find(([magic]) => head.startsWith(magic))?.[1] ?? null;
  return { kind: "file", type, base64, bytes };
}

function plain(value: Value): string {
  if (value instanceof Whole) return value.digits;
  return typeof value === "number" ? String(Math.fround(value) === value ? Number(value.toPrecision(9)) : value) : String(value);
}

function isNumber(value: Value | undefined): value is number {
  return typeof value === "number";
}

function isObject(value: Value | undefined): value is { [name: string]: Value } & Value {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Whole);
}

function isBytes(value: Value | undefined): value is { b64: string } {
  return isObject(value) && typeof value["b64"] === "string" && Object.keys(value).length === 1;
}

/** How an output is called, where the reply does not say it. */
export function outputNamed(name: string, outputs: Tensor[]): Tensor | undefined {
  return outputs.find((one) => one.name === name);
}
