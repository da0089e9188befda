// From a signature to a form: how each input may be given, and what a request's body is made of. Pure.
import type { Signature, Tensor } from "../api";
import { dtypeName } from "../format";

export type Kind = "numbers" | "flag" | "text" | "file" | "picture" | "digit" | "json";
export type Family = "float" | "integer" | "bool" | "string" | "other";

export interface Field {
  input: Tensor;
  family: Family;
  /** The shape of what is given: of one row where the request is made of rows. Null: unknown. */
  dims: number[] | null;
  /** How it may be given, the best first; "json" is always the last. */
  kinds: Kind[];
}

export interface Form {
  fields: Field[];
  /** Rows (`instances`), or whole tensors (`inputs`). */
  byRow: boolean;
}

const FLOATS = new Set(["float16", "float32", "float64", "bfloat16", "half", "float", "double"]);
const INTEGERS = new Set(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]);
const MOST_NUMBERS = 256;
/** Sides and elements up to which a picture is sent as numbers. */
export const LARGEST_SIDE = 2048;
const MOST_ELEMENTS = 4_000_000;

export function familyOf(dtype: string): Family {
  const name = dtypeName(dtype);
  if (FLOATS.has(name)) return "float";
  if (INTEGERS.has(name)) return "integer";
  if (name === "bool" || name === "string") return name;
  return "other";
}

/** As the server's own example does: rows if every input has an open first dimension, or no known shape. */
export function formOf(signature: Signature): Form {
  const byRow =
    signature.inputs.length > 0 &&
    signature.inputs.every(({ shape }) => shape === null || (shape.length > 0 && (shape[0] ?? 0) < 0));
  const fields = signature.inputs.map((input) => {
    const dims = input.shape === null ? null : byRow ? input.shape.slice(1) : input.shape;
    const family = familyOf(input.dtype);
    return { input, family, dims, kinds: kindsOf(input.name, family, dims) };
  });
  return { fields, byRow };
}

export function kindsOf(name: string, family: Family, dims: number[] | null): Kind[] {
  // Of an unknown shape, one value of the dtype is a good guess.
  const shape = dims ?? [];
  const one = shape.every((dim) => dim === 1 || dim < 0) && shape.length <= 1;
  switch (family) {
    case "string":
      if (!one) return ["json"];
      return takesPictures(name) ? ["picture", "file", "text", "json"] : ["text", "file", "json"];
    case "bool":
      return one ? ["flag", "json"] : ["json"];
    case "float":
    case "integer": {
      const pictured: Kind[] = pictureShape(shape) === null ? [] : ["picture"];
      if (isDigit(shape)) return ["digit", ...pictured, "json"];
      if (pictured.length > 0) return [...pictured, "json"];
      return shape.length <= 1 && (shape[0] ?? 1) <= MOST_NUMBERS ? ["numbers", "json"] : ["json"];
    }
    case "other":
      return ["json"];
  }
}

/** Names of inputs that take a picture's file, as the server's own example has them. */
export function takesPictures(name: string): boolean {
  return /^bytes$|_bytes$|image|picture|photo|jpe?g|png/i.test(name);
}

export function isDigit(dims: number[]): boolean {
  const text = dims.join(",");
  return text === "28,28" || text === "28,28,1" || text === "1,28,28" || text === "784";
}

export interface PictureShape {
  /** -1: as high, or as wide, as the picture is. */
  height: number;
  width: number;
  channels: 1 | 3 | 4;
  channelsFirst: boolean;
  /** A leading dimension of 1, which holds for one picture; only where there are no rows. */
  leading: boolean;
  /** One dimension, for all pixels. */
  flat: boolean;
  /** Grey values have no dimension of their own. */
  bare: boolean;
}

/** What picture a tensor of these dimensions can be, null if none. */
export function pictureShape(dims: number[]): PictureShape | null {
  if (isDigit(dims)) {
    const flat = dims.length === 1;
    const channelsFirst = dims.length === 3 && dims[0] === 1;
    return { height: 28, width: 28, channels: 1, channelsFirst, leading: false, flat, bare: dims.length === 2 };
  }
  const leading = dims.length === 4 && (dims[0] ?? 0) === 1;
  const [a, b, c] = leading ? dims.slice(1) : dims;
  if (a === undefined || b === undefined || dims.length > (leading ? 4 : 3)) return null;
  const plain = { leading, flat: false, bare: false };
  if (c === undefined) {
    // A matrix is no picture unless its sides are.
    const square = a >= 16 && b >= 16 && sides(a, b, 1);
    return square ? { ...plain, height: a, width: b, channels: 1, channelsFirst: false, bare: true } : null;
  }
  if (isChannels(c) && sides(a, b, c)) return { ...plain, height: a, width: b, channels: c, channelsFirst: false };
  if (isChannels(a) && sides(b, c, a)) return { ...plain, height: b, width: c, channels: a, channelsFirst: true };
  return null;
}

function isChannels(count: number): count is 1 | 3 | 4 {
  return count === 1 || count === 3 || count === 4;
}

function sides(height: number, width: number, channels: number): boolean {
  const fits = (side: number): boolean => side < 0 || (side >= 8 && side <= LARGEST_SIDE);
  return fits(height) && fits(width) && Math.max(1, height) * Math.max(1, width) * channels <= MOST_ELEMENTS;
}

/** Values for a start: ones, text, true, in the tensor's shape; the rows' dimension is one. "" if too many. */
export function exampleJson(field: Field, byRow: boolean): string {
  const dims = (field.dims ?? []).map((dim) => (dim < 0 ? 1 : dim));
  const shape = byRow ? [1, ...dims] : dims;
  if (shape.reduce((product, dim) => product * dim, 1) > 1024) return "";
  const one = field.family === "string" ? "text" : field.family === "bool" ? true : 1;
  let value: unknown = one;
  for (const dim of [...shape].reverse()) {
    const inner = value;
    value = Array.from({ length: dim }, () => inner);
  }
  return JSON.stringify(value);
}
